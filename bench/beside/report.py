"""Rounds of figures as JSON, a table and pictures."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.beside.workloads import SIZES, Figures, unit

Rounds = dict[str, list[Figures]]
"""Label of a server -> its figures, round by round."""

GROWTH = "growth: "


def median(rounds: Sequence[Figures], row: str) -> float:
    """The median of a row over the rounds that have it."""
    return statistics.median(figures[row] for figures in rounds if row in figures)


def spread(rounds: Sequence[Figures], row: str) -> float:
    """Largest minus smallest, as a share of the median."""
    values = [figures[row] for figures in rounds if row in figures]
    return (max(values) - min(values)) / (statistics.median(values) or 1)


def table(rounds: Rounds) -> str:
    """Markdown; with two servers also how many times better the first is."""
    labels = list(rounds)
    lines = [
        f"| workload | unit | {' | '.join(labels)} | times better | spread |",
        f"|---|---|{'---:|' * len(labels)}---:|---:|",
    ]
    for row in rounds[labels[0]][0]:
        medians = [median(rounds[label], row) for label in labels]
        ratio = ""
        if len(medians) > 1 and all(medians):
            ours, theirs = medians[:2]
            ratio = _figure(ours / theirs if unit(row) == "/s" else theirs / ours)
        spreads = " / ".join(f"{spread(rounds[label], row):.0%}" for label in labels)
        figures = " | ".join(_figure(value) for value in medians)
        lines.append(f"| {row} | {unit(row)} | {figures} | {ratio} | {spreads} |")
    return "\n".join(lines) + "\n"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write(rounds: Rounds, directory: Path) -> None:
    """Write figures.json, table.md and one picture for each row of growth."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "figures.json").write_text(json.dumps(rounds, indent=1))
    (directory / "table.md").write_text(table(rounds))
    first = next(iter(rounds.values()))[0]
    for name in dict.fromkeys(
        row.removeprefix(GROWTH).rpartition(", ")[0] for row in first if row.startswith(GROWTH)
    ):
        lines = {
            label: [median(figures, f"{GROWTH}{name}, {size:,}") for size in SIZES]
            for label, figures in rounds.items()
        }
        file = f"growth-{name.lower().replace(' ', '-')}.svg"
        (directory / file).write_text(plot(f"{name}, milliseconds", lines))


WIDTH, HEIGHT, MARGIN = 480, 300, 56
COLOURS = ("#1b6ca8", "#c4572e")


def plot(title: str, lines: dict[str, list[float]]) -> str:
    """Figures over the sizes of mailboxes as SVG, both axes logarithmic."""
    values = [value for line in lines.values() for value in line]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def x(index: int) -> float:
        return MARGIN + index * (WIDTH - 2 * MARGIN) / (len(SIZES) - 1)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="20" font-size="14">{title}</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(
            f'<path d="M{MARGIN} {at:.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for index, size in enumerate(SIZES):
        parts.append(
            f'<text x="{x(index):.1f}" y="{HEIGHT - MARGIN + 18}" '
            f'text-anchor="middle">{size:,} messages</text>'
        )
    for number, (label, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(line))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{x(index):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            for index, value in enumerate(line)
        ]
        parts.append(
            f'<text x="{MARGIN + number * 140}" y="{HEIGHT - 12}" fill="{colour}">{label}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
