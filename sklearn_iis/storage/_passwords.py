"""Passwords in the urls of databases, which are never shown."""

import re
from urllib.parse import unquote_plus

HIDDEN = "***"

_SECRET = re.compile(
    r"pass|pwd|secret|token|credential|(api|access|private|account).?key", re.IGNORECASE
)
# As SQLAlchemy reads urls, but up to the last @ before a query, as not everyone encodes
# those of a password.
_USER = re.compile(r"([^:/]*:)[^@]*@(?:[^?]*@)?")
_QUERY_ITEM = re.compile(r"([?&])([^=&?]*)=([^&]*)")


def hide_password(url: str) -> str:
    """Return a url without its password, and without secrets in its query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if found := _USER.match(rest):
        rest = f"{found[1]}{HIDDEN}@{rest[found.end() :]}"
    return scheme + separator + _QUERY_ITEM.sub(_hide_item, rest)


def _hide_item(match: re.Match) -> str:
    separator, *item = match.groups()
    # A value may be a connection string with a password in it.
    is_secret = any(_SECRET.search(unquote_plus(text)) for text in item)
    return f"{separator}{item[0]}={HIDDEN if is_secret else item[1]}"


class StorageUrl(str):
    """The url of a database, which does not show its password by `repr`."""

    __slots__ = ()

    def __repr__(self):
        return repr(hide_password(str(self)))


class StorageParam:
    """A parameter whose value may be a url: that becomes a :class:`StorageUrl`.

    So no text that is made of an estimator's parameters shows a password: its `repr`,
    that of a pipeline around it, its picture in a notebook, messages of `set_params`.
    """

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return None if instance is None else vars(instance)[self.name]

    def __set__(self, instance, value):
        if type(value) is str and "://" in value:
            value = StorageUrl(value)
        vars(instance)[self.name] = value
