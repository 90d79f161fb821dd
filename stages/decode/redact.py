"""Takes passwords out of text."""

from __future__ import annotations

import re

# Up to the last @ before the path; and, as people forget to encode a slash in a password, up to a later one if what
# comes before the path has a colon. Rather a host too many hidden than a password too few.
USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*:/{2,})(?:[^\s/?#]*@|[^\s/?#@]*:[^\s@]*[/?#]\S*@)")
ENCODED_USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*(?:%3a(?:%2f|/){2}|:(?:%2f){2}))[^\s&]*(?:%40|@)")
SECRET = re.compile(
    r"(?i)((?<![a-z0-9])(?:access_?token|api_?key|auth(?:orization)?|credentials?|key|login_?pas[sw]*|"
    r"pass(?:w(?:or)?d|wort|phrase)?|psk|psw|pw|pwd|secret|sig(?:nature)?|token)\s*(?:=|%3d))[^\s&]*"
)


def redact(text: str) -> str:
    """`text` without the user names, passwords and tokens of any address in it."""
    text = USER_INFO.sub(r"\1***@", text)
    text = ENCODED_USER_INFO.sub(r"\1***@", text)
    return SECRET.sub(r"\1***", text)
