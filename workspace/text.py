"""Makes text harmless to show: a file's bytes must not drive the terminal of the person who reads them.

Knows nothing of files. Line structure is kept: `\\n` and `\\t` pass, `\\r\\n` becomes `\\n`.
"""

import re

# C0 controls become their pictures (ESC is shown as ␛), one character for one, so that columns stay put.
# C1 controls (U+0080..U+009F; U+009B starts an escape sequence in 8-bit terminals) have no pictures. Lone
# surrogates, which file names that are not UTF-8 decode to, cannot be encoded and would fail later, far away.
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
}
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(text: str) -> str:
    """`text` with every control character but newline and tab made visible, and always encodable as UTF-8."""
    text = text.replace("\r\n", "\n")
    return _HARMFUL.sub(lambda match: _VISIBLE.get(ord(match[0]), "\ufffd"), text)


def harmless_name(name: str) -> str:
    """As `harmless`, for a file name on a line of its own: newline and tab are made visible too."""
    return harmless(name.replace("\r", "\u240d")).replace("\n", "\u240a").replace("\t", "\u2409")
