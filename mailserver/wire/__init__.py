"""Wire formats without input or output: octets to values and back."""
