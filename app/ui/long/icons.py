"""Small drawn signs for buttons that have no room for words; the button says its name itself."""

from __future__ import annotations

_DRAWN = {
    "dice": '<rect x="2.5" y="2.5" width="11" height="11" rx="2.5"/><path d="M5.5 5.5h.01M10.5 5.5h.01M8 8h.01'
    'M5.5 10.5h.01M10.5 10.5h.01" stroke-width="2"/>',
    "locked": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V5a3 3 0 0 1 6 0v2"/>',
    "open": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V4.5a3 3 0 0 1 5.7-1.3"/>',
    "above": '<path d="M8 1.5v6M5 4.5h6"/><rect x="2" y="10" width="12" height="4" rx="1"/>',
    "below": '<rect x="2" y="2" width="12" height="4" rx="1"/><path d="M8 8.5v6M5 11.5h6"/>',
    "spread": '<path d="M3 3h10M8 5.5v8M4.5 10l3.5 3.5L11.5 10"/>',
    "remove": '<path d="M4 4l8 8M12 4l-8 8"/>',
}


def icon(name: str) -> str:
    """16 × 16, in the colour of the text around it."""
    return (
        f'<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{_DRAWN[name]}</svg>'
    )
