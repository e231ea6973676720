"""The fields of a request: each is checked once, by its kind, and refused by its name."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from qwen35_local.fields import ANY_LIST, OBJECT, Kind, describe
from qwen35_local.server.errors import Refused, bad

T = TypeVar("T")


class Body:
    """An object of a request; null counts as absent. What was never asked for, in it or in the objects that it holds,
    is unknown to the server."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self.values = values
        self._where = where
        self._known: set[str] = set()
        self._inner: dict[str, list[Body]] = {}

    @overload
    def find(self, key: str, kind: Kind[T]) -> T | None: ...
    @overload
    def find(self, key: str, kind: Kind[T], default: T) -> T: ...
    def find(self, key: str, kind: Kind[T], default: T | None = None) -> T | None:
        """The value, or `default` where there is none. Raises Refused when it is of another kind."""
        value = self.any(key)
        if value is not None and not kind.fits(value):
            raise self.refuse(key, kind.expected)
        return default if value is None else value

    def need(self, key: str, kind: Kind[T]) -> T:
        """The value. Raises Refused when there is none, or it is of another kind."""
        value = self.find(key, kind)
        if value is None:
            raise self.refuse(key, kind.expected)
        return value

    def any(self, key: str) -> Any:
        """The value, of whatever kind."""
        self._known.add(key)
        return self.values.get(key)

    def object(self, key: str) -> "Body | None":
        """The object in a field, the same one each time. Raises Refused when it is something else."""
        value = self.find(key, OBJECT)
        if value is None:
            return None
        return self._inner.setdefault(key, [Body(value, f"{self._where}{key}.")])[0]

    def objects(self, key: str, most: int) -> "list[Body]":
        """The list of objects in a field, the same ones each time. Raises Refused."""
        entries = self.find(key, ANY_LIST) or []
        if len(entries) > most:
            raise self.refuse(key, f"at most {most} entries")
        wrong = next((n for n, entry in enumerate(entries) if not OBJECT.fits(entry)), None)
        if wrong is not None:
            raise bad(
                f"{self._where}{key}[{wrong}]",
                f"{self._where}{key}[{wrong}] is {describe(entries[wrong])}; expected an object.",
            )
        made = (Body(entry, f"{self._where}{key}[{n}].") for n, entry in enumerate(entries))
        return self._inner.setdefault(key, list(made))

    def refuse(self, key: str, expected: str) -> Refused:
        """The refusal of what `key` holds."""
        value = self.values.get(key)
        found = "missing" if value is None else describe(value)
        return bad(self._where + key, f"{self._where}{key} is {found}; expected {expected}.")

    def unsupported(self, neutral: Mapping[str, Iterable[Any]], why: str) -> None:
        """Refuses fields that would change the answer and that this server does not know how to follow, unless they
        have one of the values that change nothing."""
        for key, values in neutral.items():
            value = self.any(key)
            if value is not None and not any(type(value) is type(same) and value == same for same in values):
                raise bad(self._where + key, f"{self._where}{key} is not supported{why}; leave it out.")

    def ignore(self, *keys: str) -> None:
        """Known, and without effect on the answer."""
        self._known.update(keys)

    def unknown(self) -> list[str]:
        """Fields that nothing asked for."""
        own = [self._where + key for key, value in self.values.items() if value is not None and key not in self._known]
        return own + [name for inner in self._inner.values() for body in inner for name in body.unknown()]
