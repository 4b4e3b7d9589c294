"""Half-open windows of time in microseconds UTC."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from recsys_mtl.errors import ConfigError
from recsys_mtl.spec.base import duration_us

DAY_US = duration_us("1d")
_EPOCH = date(1970, 1, 1)
_EPOCH_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_US, _EVER_US = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Interval:
    """[start_us, end_us) in microseconds UTC."""

    start_us: int
    end_us: int

    def as_json(self) -> dict[str, int]:
        """Plain values for manifests."""
        return {"start_us": self.start_us, "end_us": self.end_us}


def day_start_us(day: date, utc_offset: str = "0h") -> int:
    """UTC microseconds at which a local day starts."""
    return (day - _EPOCH).days * DAY_US - duration_us(utc_offset)


def local_day(time_us: int, utc_offset: str = "0h") -> date:
    """Local day that holds a time."""
    return _EPOCH + timedelta(days=(time_us + duration_us(utc_offset)) // DAY_US)


def parse_end(text: str, utc_offset: str = "0h") -> date:
    """Day at whose local start a window ends: a date as it is, a UTC time rounded down to a day.

    Raises:
        ConfigError: if the text is neither.
    """
    return _parse_day(text, utc_offset, "--interval-end")


def parse_interval(start: str | None, end: str | None, utc_offset: str = "0h") -> Interval:
    """Window of local days from `start` up to, not including, `end`; unbounded where absent.

    Raises:
        ConfigError: if a text is neither a date nor a UTC time, or the window is empty.
    """
    start_us, end_us = _NEVER_US, _EVER_US
    if start is not None:
        start_us = day_start_us(_parse_day(start, utc_offset, "--interval-start"), utc_offset)
    if end is not None:
        end_us = day_start_us(_parse_day(end, utc_offset, "--interval-end"), utc_offset)
    if start_us >= end_us:
        raise ConfigError(f"the window from {start} to {end} is empty; the end is exclusive")
    return Interval(start_us, end_us)


def _parse_day(text: str, utc_offset: str, flag: str) -> date:
    try:
        if len(text) == 10:
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{flag} {text!r} is not a time; give a date such as 2026-03-11 "
            "or a UTC time such as 2026-03-11T03:00:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return local_day((moment - _EPOCH_TIME) // timedelta(microseconds=1), utc_offset)
