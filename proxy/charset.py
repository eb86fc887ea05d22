"""Octets to text, whatever the label says: the character sets that mail really uses.

Called by ``headertext`` for encoded words and raw 8-bit header text, and by ``mime`` for body text that a report
decides on. A label comes from a stranger, so it is looked up in a table of our own and never handed to the codec
registry (which would import modules by that name, and remember every name it was ever asked for).

Labels are read generously, as mail programs write them: ``gb2312`` means GB 18030, ``shift_jis`` means Windows code
page 932, ``iso-8859-1`` means Windows-1252, ISO-2022-JP and EUC-JP may hold the NEC and IBM characters (①, 髙) that
the standards lack. Octets that do not fit their label are taken for UTF-8 if they are that; else what cannot be
decoded becomes U+FFFD. Never raises; the result never holds a lone surrogate. Time is linear.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(rb"\x1b(\$[@B]|\([BIJ])")
_EUC = re.compile(rb"(?s)((?>(?:[\xa1-\xfe]{2})+))|\x8e([\xa1-\xdf])|([\x00-\x7f]++|.)")
_SEVEN_BITS = bytes(octet & 0x7F for octet in range(256))


def _table() -> dict[str, tuple[str, ...]]:
    """Label (lower case, hyphens) to the codecs to try, in order."""
    table: dict[str, tuple[str, ...]] = {f"iso-8859-{n}": (f"iso8859-{n}",) for n in (*range(2, 12), 13, 14, 15, 16)}
    table |= {f"windows-{n}": (f"cp{n}",) for n in range(1250, 1259)}
    table |= {f"cp{n}": (f"cp{n}",) for n in (437, 720, 737, 775, *range(1250, 1259))}
    table |= {f"cp{n}": (f"cp{n}",) for n in (850, 852, 855, 856, 857, 858, *range(860, 867), 869, 874, 1125)}
    for label in list(table):
        table[label.replace("iso-", "iso").replace("cp", "ibm").replace("windows-", "x-cp")] = table[label]
    named: tuple[tuple[tuple[str, ...], str], ...] = (
        (("utf-8",), "utf-8 utf8 unicode-1-1-utf-8 utf-8-sig x-utf-8 cp65001 us-ascii ascii ansi-x3.4-1968 646"),
        (("utf-7",), "utf-7 unicode-1-1-utf-7"),
        (("utf-16",), "utf-16 ucs-2 unicode"),
        (("utf-16-be",), "utf-16be"),
        (("utf-16-le",), "utf-16le"),
        (("cp1252",), "iso-8859-1 iso8859-1 latin1 latin-1 l1 ansi x-ansi iso-ir-100 cp819"),
        (("cp1254",), "iso-8859-9 iso8859-9 latin5"),
        (("cp874",), "iso-8859-11 iso8859-11 tis-620 windows-874 x-windows-874"),
        (("iso8859-2",), "latin2"),
        (("iso8859-8",), "iso-8859-8-i iso-8859-8-e"),
        (("koi8-r",), "koi8-r koi8 koi"),
        (("koi8-u",), "koi8-u koi8-ru"),
        (("koi8-t",), "koi8-t"),
        (("mac-roman",), "macintosh mac x-mac-roman"),
        (("mac-cyrillic",), "x-mac-cyrillic"),
        (("iso2022_jp_2", "jis-ms"), "iso-2022-jp iso-2022-jp-1 iso-2022-jp-2 csiso2022jp jis cp50220 cp50221 cp50222"),
        (("iso2022_jp_ext", "jis-ms"), "iso-2022-jp-ms x-iso-2022-jp-ms iso-2022-jp-ext"),
        (("iso2022_jp_3",), "iso-2022-jp-3"),
        (("iso2022_jp_2004",), "iso-2022-jp-2004"),
        (
            ("cp932",),
            "shift-jis shiftjis sjis x-sjis ms-kanji csshiftjis cp932 ms932 windows-31j windows-932 cswindows31j",
        ),
        (("shift_jis_2004",), "shift-jis-2004 shift-jisx0213"),
        (("euc_jp", "euc-ms"), "euc-jp eucjp x-euc-jp x-euc ujis cseucpkdfmtjapanese euc-jp-ms eucjp-ms cp51932"),
        (
            ("gb18030",),
            "gb2312 gb-2312 gb-2312-80 gbk gb18030 gb-18030 x-gbk cp936 ms936 windows-936 euc-cn x-euc-cn cn-gb",
        ),
        (("hz",), "hz-gb-2312 hz"),
        (("cp950", "big5hkscs"), "big5 big-5 x-big5 cn-big5 csbig5 cp950 ms950 windows-950"),
        (("big5hkscs",), "big5-hkscs"),
        (("cp949",), "euc-kr euckr ks-c-5601-1987 ks-c-5601 ksc5601 ksc-5601 cp949 ms949 uhc windows-949 korean"),
        (("johab",), "johab"),
        (("iso2022_kr",), "iso-2022-kr csiso2022kr"),
    )
    for codecs, labels in named:
        table |= dict.fromkeys(labels.split(), codecs)
    return table


_CODECS = _table()


def is_known(label: str) -> bool:
    """True when the label names a character set that can be decoded here."""
    return bool(_codecs(label))


def decode_octets(octets: bytes, label: str = "") -> str:
    """The text that octets with that label stand for; an unknown or empty label means: look at the octets.

    A language suffix (``iso-8859-1*en``, RFC 2231 5) is ignored.
    """
    text = decode_strictly(octets, label)
    if text is not None:
        return text
    codecs = _codecs(label)
    if not codecs or codecs[0] == "utf-8" or _is_utf_8(octets):
        return _guess(octets)
    return _whole(octets.decode(codecs[0], "replace"))


def decode_strictly(octets: bytes, label: str) -> str | None:
    """The text if every octet fits the label, else None."""
    for codec in _codecs(label):
        try:
            if codec == "jis-ms":
                return _jis_with_extensions(octets)
            if codec == "euc-ms":
                return _euc_with_extensions(octets)
            return _whole(octets.decode(codec))
        except UnicodeError:
            continue
    return None


def _codecs(label: str) -> tuple[str, ...]:
    return _CODECS.get(label.partition("*")[0].strip(" \t'\"").lower().replace("_", "-"), ())


def _whole(text: str) -> str:
    """Without lone surrogates, which UTF-7 can smuggle in and which nothing behind us can encode."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _is_utf_8(octets: bytes) -> bool:
    """True for valid UTF-8 that is more than ASCII."""
    if octets.isascii():
        return False
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guess(octets: bytes) -> str:
    """Unlabelled octets: UTF-8 (also when a little of it is damaged), raw ISO-2022-JP, else Windows-1252."""
    if _ESCAPE.search(octets) is not None and (text := decode_strictly(octets, "iso-2022-jp")) is not None:
        return text
    text = octets.decode("utf-8", "replace")
    # Every sound multi-octet character makes the text shorter than its octets; a damaged one hardly does.
    if len(octets) - len(text) >= text.count("\ufffd"):
        return text
    return octets.decode("cp1252", "replace")


def _jis_with_extensions(octets: bytes) -> str:
    """ISO-2022-JP with NEC and IBM characters and half-width katakana, as Microsoft's code page 50221 has it."""
    pieces = _ESCAPE.split(octets)
    shifted = [pieces[0]]
    for escape, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if escape == b"(I":
            shifted.append(bytes(octet | 0x80 for octet in piece))
        elif escape[:1] == b"$":
            shifted.append(_shift(piece))
        else:
            shifted.append(piece)
    return b"".join(shifted).decode("cp932")


def _euc_with_extensions(octets: bytes) -> str:
    """EUC-JP with NEC and IBM characters, as Microsoft's code page 51932 has it, and half-width katakana."""
    shifted = []
    for pairs, kana, other in _EUC.findall(octets):
        if not other.isascii():
            raise UnicodeError("octets that are no EUC-JP")
        shifted.append(_shift(pairs.translate(_SEVEN_BITS)) + kana + other)
    return b"".join(shifted).decode("cp932")


def _shift(pairs: bytes) -> bytes:
    """JIS X 0208 octet pairs as Shift_JIS."""
    if len(pairs) % 2 or any(not 0x21 <= octet <= 0x7E for octet in pairs):
        raise UnicodeError("octets that are no pairs of JIS X 0208")
    out = bytearray()
    for row, cell in zip(pairs[::2], pairs[1::2], strict=True):
        out.append((row + 1) // 2 + (0x70 if row <= 0x5E else 0xB0))
        out.append(cell + (0x7E if row % 2 == 0 else 0x20 if cell >= 0x60 else 0x1F))
    return bytes(out)
