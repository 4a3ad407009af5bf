"""XMP packets in picture files, where programs that show or sort pictures look for how a picture was made.

A packet is XML (ISO 16684-1). PNG holds it as an uncompressed iTXt chunk, JPEG as an APP1 segment, WebP as an "XMP " chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image, PngImagePlugin

from .errors import ImageError

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "difffae": "urn:difffae:xmp:1/",
}
PNG_KEY = "XML:com.adobe.xmp"
JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
JPEG_MOST = 65_533 - len(JPEG_HEADER)  # bytes of a packet in one APP1 segment


def write_packet(properties: Mapping[str, str]) -> bytes:
    """A packet of simple properties, {"xmp:CreatorTool": "text", ...}, with the prefixes of NAMESPACES."""
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items() if prefix != "rdf")
    lines = [f"   <{name}>{escape(value)}</{name}>" for name, value in properties.items()]
    return "\n".join(
        [
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">',
            f' <rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}">',
            f'  <rdf:Description rdf:about="" {spaces}>',
            *lines,
            "  </rdf:Description>",
            " </rdf:RDF>",
            "</x:xmpmeta>",
            '<?xpacket end="w"?>',
        ]
    ).encode()


def read_property(packet: bytes, name: str) -> str | None:
    """A simple property by its prefixed name, as an element or, as some programs rewrite it, as an attribute; None if there is none.

    A packet that is not well-formed, or that declares entities (XMP has none; they can be made to explode), has no properties.
    """
    try:
        text = packet.decode().strip("\ufeff\x00 \r\n\t")
        if "<!DOCTYPE" in text:
            return None
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError):
        return None
    prefix, _, local = name.partition(":")
    key = f"{{{NAMESPACES[prefix]}}}{local}"
    for description in root.iter(f"{{{NAMESPACES['rdf']}}}Description"):
        value = description.get(key) or description.findtext(key)
        if value:
            return value
    return None


def stored_packet(picture: Image.Image) -> bytes | None:
    """The packet of an opened picture, or None."""
    packet = picture.info.get(PNG_KEY) or picture.info.get("xmp")
    if packet is None:  # Pillow before 11 leaves a JPEG's packet among its segments
        segments = [data for name, data in getattr(picture, "applist", []) if name == "APP1" and data.startswith(JPEG_HEADER)]
        packet = segments[0][len(JPEG_HEADER) :] if segments else None
    return packet.encode() if isinstance(packet, str) else packet


def pnginfo(text: Mapping[str, str], packet: bytes | None = None) -> PngImagePlugin.PngInfo:
    """Chunks for Pillow: text as tEXt (iTXt where it is not Latin-1), the packet as iTXt."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    if packet is not None:
        info.add_itxt(PNG_KEY, packet.decode())
    return info


def save_options(kind: str, text: Mapping[str, str], packet: bytes | None) -> dict[str, Any]:
    """Pillow's options that store a packet in a "PNG", "JPEG" or "WEBP", and text in a PNG. Raises ImageError if it does not fit."""
    if kind == "PNG":
        return {"pnginfo": pnginfo(text, packet)}
    if packet is None:
        return {}
    if kind == "WEBP":
        return {"xmp": packet}
    if len(packet) > JPEG_MOST:
        raise ImageError(f"recipe: {len(packet)} bytes are more than the {JPEG_MOST} that fit into a JPEG; write a PNG or WebP file")
    body = JPEG_HEADER + packet
    # as a ready segment: Pillow knows the option "xmp" of JPEG files only since version 11
    return {"extra": b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body}
