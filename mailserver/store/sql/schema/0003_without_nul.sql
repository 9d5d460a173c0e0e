-- Messages in files that hold no NUL, which the protocols that send them do not carry (T31):
-- their octets may go from the file to the client as they are. One that is not named here
-- is only sent more slowly.
CREATE TABLE without_nul (
    message INTEGER PRIMARY KEY
) STRICT;
