"""Texts that have broken other systems: for names, ids, queues, tags and values alike."""

from __future__ import annotations

__all__ = ["REFUSED", "TAKEN"]

TAKEN = [
    # closing a quote, and going on
    "'", "''", "'''", '"', '""', "`", "\\", "\\'", "\\\\'", "'\\", "$$", "$x$",
    "'; DROP SCHEMA flowgen CASCADE; --", '"; DROP TABLE run; --', "'); DELETE FROM flowgen.run; --",
    "' OR '1'='1", "' OR 1=1 --", "1' OR '1' = '1' -- -", "' UNION SELECT NULL, version() --", "admin'--",
    "1; SELECT pg_sleep(10)", "'||pg_sleep(10)||'", "'||(SELECT 1)||'", "x' AND 1=CAST((SELECT version()) AS int) --",
    "1 AND 1=1", "' HAVING 1=1 --", "' ORDER BY 99 --", "%' AND 1=1 AND '%'='", "') OR ('1'='1",
    "E'\\x27'", "U&'\\0027'",
    "$function$ BEGIN END $function$", "::regclass", "NULL", "null", "true", "DEFAULT", "--", ";", "{}",
    "{1,2}", "(1,2)",
    # placeholders and templates
    "%s", "%(id)s", "%", "%%", "%b", "{schema}", "{0}", "{id!r}", "$1", "$2::text", ":name",
    "?", "${jndi:ldap://x}", "<%= 1 %>",
    # writing
    " a ", "ä ö ü ß", "İstanbul", "ﬁ", "e\u0301", "\u202egnirts", "مرحبا", "שלום", "漢字", "🦀🧨", "👩‍👩‍👧‍👦",
    "\u200b\u200bx", "\ufeffx",
    "a" * 64, "é" * 64, "🦀" * 45, "../../etc", "C:\\temp", "a=b&c=d", "<b>", "\u00ad", "Ω" * 90,
]  # fmt: skip
"""Names as good as any other, all of at most 190 bytes."""
TAKEN = [each.replace("/", ":") for each in TAKEN]

REFUSED = {
    "empty": "", "white space": " \u3000\u00a0 ", "a NUL": "a\0b", "a newline": "a\nb", "a return": "a\rb",
    "an escape": "\x1b[2J", "a C1 control": "\x9b2J", "a line separator": "a\u2028b", "a lone surrogate": "a\ud800",
    "10 KB": "x" * 10_240,
}  # fmt: skip
"""What is no name and no id, by what is wrong with it."""
