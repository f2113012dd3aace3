"""Sizes and durations for people."""


def told_seconds(seconds: float) -> str:
    """A duration in its two largest units."""
    left = max(0, int(seconds))
    told: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or told:
            told.append(f"{number}{unit}")
    return " ".join(told[:2]) or "0s"


def told_bytes(size: float) -> str:
    """A size to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
