-- What POP3 calls messages that came from another server, so that clients which leave mail
-- there know them again. A row outlives its message: no name is given twice (RFC 1939 §7).
CREATE TABLE unique_id (
    mailbox INTEGER NOT NULL,
    uid     INTEGER NOT NULL,
    name    TEXT    NOT NULL,                    -- 1 to 70 characters, 0x21 to 0x7E
    PRIMARY KEY (mailbox, uid),
    UNIQUE (mailbox, name)
) STRICT, WITHOUT ROWID;
