"""Header text as people and patterns see it: unfolded, decoded, always one line of sound text."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaifu.proxy import charset
from kaifu.proxy.charset import decode_octets, decode_strictly, is_known
from kaifu.proxy.headertext import decode, unfold

CONTRACT = "契約書ご確認のお願い"


def b_word(octets: bytes, label: str) -> bytes:
    return b"=?%b?B?%b?=" % (label.encode(), base64.b64encode(octets))


def q_word(octets: bytes, label: str) -> bytes:
    return b"=?%b?q?%b?=" % (label.encode(), b"".join(b"=%02X" % octet for octet in octets))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b"plain", "plain", id="plain"),
        pytest.param(b"a\rb\x00c", "a b c", id="plain, with what would end a line"),
        pytest.param(b"=?utf-8?q?caf=C3=A9_au_lait?=", "café au lait", id="Q"),
        pytest.param(b"=?UTF-8?B?5aWR57SE?=", "契約", id="B"),
        pytest.param(
            b"Re: =?utf-8?q?a?= =?utf-8?q?b?= c", "Re: ab c", id="space between words goes, beside them stays"
        ),
        pytest.param(b"=?utf-8?q?a?=  \t =?iso-8859-1?q?=e9?=", "aé", id="also between charsets"),
        pytest.param(b"=?utf-8?q?a?==?utf-8?q?b?=", "ab", id="words that touch"),
        pytest.param(b"(=?utf-8?q?a?=)x=?utf-8?q?b?=y", "(a)xby", id="words that touch text"),
        pytest.param(b'"=?utf-8?q?a=2C_b?=" <c@d.example>', '"a, b" <c@d.example>', id="inside quotes"),
        pytest.param(b"=?utf-8?q?two words?=", "two words", id="raw space in Q"),
        pytest.param(b"=?utf-8?q?really=3F?= =?utf-8?q??=", "really?", id="empty word"),
        pytest.param(b"=?koi8-r*ru?q?=C1?=", "а", id="language suffix"),
        pytest.param(b"=?ISO_8859-1?Q?=FC?=", "ü", id="underscore in the label"),
        pytest.param(b"=?utf-8?q?lost =?utf-8?q?found?=", "=?utf-8?q?lost found", id="a word never finished"),
        pytest.param(b"=?utf-8?q?lost", "=?utf-8?q?lost", id="no word at all"),
        pytest.param(b"=?utf-8?x?abc?=", "=?utf-8?x?abc?=", id="unknown encoding"),
        pytest.param(b"=?utf-8?q?a=ZZ=4?=", "a=ZZ=4", id="broken hex"),
        pytest.param(b"=?utf-8?b?YQ?= =?utf-8?b?Y!Q=?= =?utf-8?b?YWJ?=", "aaab", id="broken base64"),
        pytest.param(b"=?utf-8?b?Y?=", "", id="base64 of less than an octet"),
        pytest.param(b"=?x-unknown?q?=E5=A5=91?=", "契", id="unknown label, sound UTF-8"),
        pytest.param(b"=?us-ascii?q?=E5=A5=91?=", "契", id="label says ASCII"),
        pytest.param(b"=?iso-2022-jp?q?=E5=A5=91?=", "契", id="label says JIS"),
        pytest.param(
            b"=?zlib?q?a?= =?idna?q?b?= =?unicode_escape?q?=5Cx41?=", "ab\\x41", id="codecs that are no charset"
        ),
        pytest.param("契約 raw".encode(), "契約 raw", id="raw UTF-8"),
        pytest.param("契約 raw".encode()[1:], "\ufffd\ufffd約 raw", id="damaged UTF-8"),
        pytest.param("Müller".encode("latin-1"), "Müller", id="raw Latin-1"),
        pytest.param("契約".encode("iso-2022-jp"), "契約", id="raw ISO-2022-JP"),
        pytest.param("é ".encode() + b"=?utf-8?q?x?=", "é x", id="raw beside encoded"),
        pytest.param(b"=?utf-8?q?a=0D=0ABcc:_b=00c?=\rd\x00", "a  Bcc: b c d ", id="nothing starts a line"),
    ],
)
def test_a_value_reads_as(value: bytes, text: str) -> None:
    assert decode(value) == text


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("iso-2022-jp", "iso2022_jp"),
        ("ISO-2022-JP", "iso2022_jp"),
        ("Shift_JIS", "cp932"),
        ("x-sjis", "cp932"),
        ("windows-31j", "cp932"),
        ("euc-jp", "euc_jp"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("utf-8", "utf-8"),
        ("UTF8", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-7", "utf-7"),
    ],
)
def test_charsets_of_japanese_mail(label: str, codec: str) -> None:
    octets = CONTRACT.encode(codec)
    assert decode(b_word(octets, label)) == CONTRACT
    assert decode(q_word(octets, label)) == CONTRACT


@pytest.mark.parametrize(
    ("label", "octets", "text"),
    [
        ("iso-2022-jp", b"\x1b$B|b66-!\x1b(B (\x1b(I1\x1b(B)", "髙橋① (ｱ)"),
        ("iso-2022-jp", b"\x1b$B7@Ls\x1b(B \x1b$B-j\x1b(J!", "契約 ㈱!"),
        ("euc-jp", b"\xfc\xe2\xb6\xb6\xad\xa1 (\x8e\xb1)", "髙橋① (ｱ)"),
        ("shift_jis", b"\xfb\xfc\x8b\xb4\x87\x40", "髙橋①"),
        ("gb2312", "镕".encode("gbk"), "镕"),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("big5", "碁銹".encode("cp950"), "碁銹"),
        ("iso-8859-1", b"\x93quoted\x94 \x80", "“quoted” €"),
        ("iso-8859-9", "ışık".encode("cp1254"), "ışık"),
        ("koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("iso-8859-8-i", "שלום".encode("iso8859-8"), "שלום"),
    ],
)
def test_charsets_hold_what_their_users_put_there(label: str, octets: bytes, text: str) -> None:
    assert decode_octets(octets, label) == text
    assert decode(b_word(octets, label)) == text


@pytest.mark.parametrize(
    ("label", "codec"), [("utf-8", "utf-8"), ("shift_jis", "cp932"), ("gb2312", "gb18030"), ("euc-jp", "euc_jp")]
)
@pytest.mark.parametrize("word", [b_word, q_word])
def test_a_character_cut_in_two_between_words_is_made_whole(
    label: str, codec: str, word: Callable[[bytes, str], bytes]
) -> None:
    octets = CONTRACT.encode(codec)
    for cut in range(1, len(octets)):
        assert decode(word(octets[:cut], label) + b" " + word(octets[cut:], label.upper())) == CONTRACT


def test_half_a_character_is_replaced() -> None:
    assert decode(b"=?utf-7?q?a+2AA-b?=") == "a\ufffdb"


def test_the_japanese_extensions_agree_with_the_standard_where_there_is_one() -> None:
    """Every character of JIS X 0208, decoded beside a NEC character that the standard codecs do not know."""
    compared = 0
    for row in range(0x21, 0x7F):
        for cell in range(0x21, 0x7F):
            pair = bytes((row, cell))
            euc = bytes((row | 0x80, cell | 0x80))
            standard = decode_strictly(b"\x1b$B" + pair + b"\x1b(B", "iso-2022-jp")
            if standard is None or standard in "①―〜‖−¢£¬＼":
                continue  # not in the standard, or Microsoft maps it to a sibling
            assert decode_octets(b"\x1b$B" + pair + b"-!\x1b(B", "iso-2022-jp") == standard + "①"
            assert decode_octets(euc + b"\xad\xa1", "euc-jp") == standard + "①"
            compared += 1
    assert compared > 6800


def test_what_cannot_be_decoded_is_replaced_and_the_rest_stays() -> None:
    assert decode(b_word(b"\x1b$B7@\x7f\x7fLs\x1b(B ok", "iso-2022-jp")).endswith("ok")
    assert "\ufffd" in decode(b_word(b"\x83\x83\x83 \xff ok", "shift_jis"))


def test_every_codec_behind_a_label_exists() -> None:
    named = {codec for chain in charset._CODECS.values() for codec in chain}
    for codec in named - {"jis-ms", "euc-ms"}:
        codecs.lookup(codec)
    for label in charset._CODECS:
        assert is_known(label.upper())
        assert decode_strictly(b"", label) == ""


labels = st.one_of(
    st.sampled_from(sorted(charset._CODECS)), st.text(max_size=8).map(lambda text: text.replace("?", ""))
)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12), st.builds(b_word, st.binary(max_size=12), st.sampled_from(sorted(charset._CODECS)))
        ),
        max_size=6,
    )
)
def test_any_value_becomes_one_line_of_sound_text(pieces: list[bytes]) -> None:
    text = decode(b" ".join(pieces))
    assert not {"\r", "\n", "\x00"} & set(text)
    text.encode("utf-8")


@given(st.binary(max_size=40), labels)
def test_any_octets_with_any_label_become_sound_text(octets: bytes, label: str) -> None:
    text = decode_octets(octets, label)
    text.encode("utf-8")
    strict = decode_strictly(octets, label)
    assert strict is None or strict == text


@given(
    st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=30),
    st.integers(1, 20),
    st.booleans(),
)
def test_what_a_conforming_program_encodes_reads_the_same(text: str, size: int, base: bool) -> None:
    word = b_word if base else q_word
    chunks = [text[start : start + size].encode() for start in range(0, len(text), size)]
    assert decode(b"\r\n ".join(word(chunk, "utf-8") for chunk in chunks).replace(b"\r\n", b"")) == text


@given(st.binary(max_size=60))
def test_unfolding_takes_only_line_ends_before_white_space_and_the_outer_white_space(value: bytes) -> None:
    folded = value.replace(b"\n", b"").replace(b"\r", b"").replace(b" ", b"\r\n ").replace(b"\t", b"\n\t")
    plain = value.replace(b"\n", b"").replace(b"\r", b"").strip(b" \t")
    assert unfold(folded + b"\r\n") == plain
