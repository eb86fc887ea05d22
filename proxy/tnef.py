"""The message class in a TNEF stream (MS-OXTNEF): what sort of item Outlook wrapped up.

Called by ``suspected`` for messages whose whole body is ``application/ms-tnef``. Reads the chain of attributes as far as
the message class and nothing of their content. Limit: :data:`MAX_ATTRIBUTES`. Never raises.
"""

from __future__ import annotations

import struct

SIGNATURE = 0x223E9F78
MESSAGE_CLASS = 0x00078008
MAX_ATTRIBUTES = 64
MAX_CLASS = 256

_HEAD = struct.Struct("<IH")
_ATTRIBUTE = struct.Struct("<BII")
_CHECKSUM = 2


def message_class(stream: bytes) -> str | None:
    """The message class, for example ``IPM.Microsoft Mail.Read Receipt``; None when there is none to be read."""
    if len(stream) < _HEAD.size or _HEAD.unpack_from(stream)[0] != SIGNATURE:
        return None
    position = _HEAD.size
    for _ in range(MAX_ATTRIBUTES):
        if position + _ATTRIBUTE.size > len(stream):
            return None
        _, identifier, length = _ATTRIBUTE.unpack_from(stream, position)
        position += _ATTRIBUTE.size
        if identifier == MESSAGE_CLASS:
            octets = stream[position : position + min(length, MAX_CLASS)]
            return octets.partition(b"\0")[0].decode("latin-1").strip() or None
        position += length + _CHECKSUM
    return None
