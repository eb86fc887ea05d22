"""The mail of ``kaifu demo``: a few days of a small company, written in the style of the programs that send such mail.

Each :class:`Scene` is one transaction. ``build`` gets the Message-IDs of earlier scenes, because receipts and replies cite
them. Addresses are reserved example domains (RFC 2606).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent

Ids = Mapping[str, str]


@dataclass(frozen=True)
class Scene:
    """``key`` names the message for later scenes; ``title`` says what happens in a sentence."""

    key: str
    title: str
    sender: str
    recipients: tuple[str, ...]
    build: Callable[[Ids], str]
    outside: bool = False


def _word(text: str) -> str:
    """An RFC 2047 encoded word."""
    return f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def _mail(header: str, body: str) -> str:
    return dedent(header).strip() + "\n\n" + dedent(body).strip() + "\n"


def _thunderbird_receipt(reader: str, asker: str, original: str) -> str:
    """Three parts, References only, a report part with a name: what Thunderbird sends."""
    return _mail(
        f"""
        Date: Mon, 16 Nov 2026 10:12:44 +0900
        From: {reader}
        Message-ID: <tb-1@partner.example>
        Subject: Return Receipt (displayed) - {_word("契約書のご確認")}
        To: {asker}
        References: <{original}>
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=disposition-notification; boundary="tb"
        """,
        f"""
        --tb
        Content-Type: text/plain; charset=UTF-8
        Content-Transfer-Encoding: 8bit

        This is a Return Receipt for the mail that you sent to {reader}.

        --tb
        Content-Type: message/disposition-notification; name="MDNPart2.txt"
        Content-Disposition: inline
        Content-Transfer-Encoding: 7bit

        Reporting-UA: Mozilla Thunderbird
        Final-Recipient: rfc822;{reader}
        Original-Message-ID: <{original}>
        Disposition: manual-action/MDN-sent-manually; displayed

        --tb--
        """,
    )


def _verified(text: str, domain: str) -> str:
    """The same with the field that the border writes on mail whose DKIM signature is valid (RFC 8601)."""
    return f"Authentication-Results: {BORDER}; dkim=pass header.d={domain}\n{text}"


def _exchange_receipt(reader: str, asker: str, original: str) -> str:
    """Two parts, the first one multipart/alternative, no Original-Message-ID: what Exchange sends."""
    return _mail(
        f"""
        From: {reader}
        To: {asker}
        Subject: Read: {_word("見積書と契約条件")}
        In-Reply-To: <{original}>
        Message-ID: <exch-1@hq.partner-group.example>
        Date: Mon, 16 Nov 2026 11:01:02 +0900
        MIME-Version: 1.0
        Content-Type: multipart/report; boundary="ex"; report-type=disposition-notification
        """,
        f"""
        --ex
        Content-Type: multipart/alternative; boundary="alt"

        --alt
        Content-Type: text/plain; charset="us-ascii"

        Your message was read.
        --alt--

        --ex
        Content-Type: message/disposition-notification

        Final-recipient: RFC822; {reader}
        Disposition: automatic-action/MDN-sent-automatically; displayed
        X-MSExch-Correlation-Key: TWVldGluZyByb29tIDQ=

        --ex--
        """,
    )


def _bounce(recipient: str, asker: str, original: str) -> str:
    """A DSN that says that one recipient does not exist (RFC 3464)."""
    return _mail(
        f"""
        From: MAILER-DAEMON@mx.partner.example
        To: {asker}
        Subject: Undelivered Mail Returned to Sender
        Message-ID: <bounce-1@mx.partner.example>
        Date: Mon, 16 Nov 2026 09:31:00 +0900
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status; boundary="dsn"
        """,
        f"""
        --dsn
        Content-Type: text/plain

        I could not deliver your message.

        --dsn
        Content-Type: message/delivery-status

        Reporting-MTA: dns; mx.partner.example

        Final-Recipient: rfc822; {recipient}
        Action: failed
        Status: 5.1.1
        Diagnostic-Code: smtp; 550 5.1.1 User unknown

        --dsn
        Content-Type: text/rfc822-headers

        Message-ID: <{original}>
        Subject: {_word("見積書と契約条件")}

        --dsn--
        """,
    )


def _plain(sender: str, to: str, subject: str, message_id: str, body: str, *more: str) -> Callable[[Ids], str]:
    def build(ids: Ids) -> str:
        fields = [
            f"From: {sender}",
            f"To: {to}",
            f"Subject: {subject if subject.isascii() else _word(subject)}",
            f"Message-ID: <{message_id}>",
            "Date: Mon, 16 Nov 2026 09:00:00 +0900",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=UTF-8",
            "Content-Transfer-Encoding: 8bit",
        ]
        fields += [line.format(**{key: f"<{value}>" for key, value in ids.items()}) for line in more]
        return "\n".join(fields) + f"\n\n{body}\n"

    return build


BORDER = "mx.example.co.jp"
LEGAL = "legal@example.co.jp"
SATO = "sato@example.co.jp"
YAMADA = "yamada@partner.example"
SUZUKI = "suzuki@hq.partner-group.example"
NOBODY = "nobody@partner.example"
SALES = "sales@partner.example"
TANAKA = "tanaka@partner.example"
STRANGER = "buyer@elsewhere.example"

SCENES = (
    Scene(
        "contract",
        "The legal department mails a contract to a partner; its client did not ask for a receipt.",
        LEGAL,
        (YAMADA,),
        _plain(LEGAL, YAMADA, "契約書のご確認", "contract-1@example.co.jp", "契約書をお送りします。"),
    ),
    Scene(
        "terms",
        "One message to four people: two partners, an address that does not exist, and a stranger.",
        LEGAL,
        (YAMADA, SUZUKI, NOBODY, STRANGER),
        _plain(LEGAL, YAMADA, "見積書と契約条件", "terms-2@example.co.jp", "契約条件をご確認ください。"),
    ),
    Scene(
        "private",
        "A private message whose client asks for a receipt.",
        SATO,
        ("friend@elsewhere.example",),
        _plain(
            SATO,
            "friend@elsewhere.example",
            "週末の予定",
            "private-3@example.co.jp",
            "土曜日はどう?",
            "Sensitivity: Private",
            f"Disposition-Notification-To: {SATO}",
        ),
    ),
    Scene(
        "list",
        "The legal department posts to a mailing list at a partner.",
        LEGAL,
        ("forum@partner.example",),
        _plain(
            LEGAL,
            "forum@partner.example",
            "Contract law forum: agenda",
            "list-4@example.co.jp",
            "Agenda attached.",
            "List-Id: <forum.partner.example>",
            "Precedence: list",
        ),
    ),
    Scene(
        "asked",
        "An employee's own Outlook asks a partner for a receipt.",
        SATO,
        (YAMADA,),
        _plain(
            SATO,
            YAMADA,
            "打ち合わせの件",
            "own-5@example.co.jp",
            "明日はいかがですか。",
            f"Disposition-Notification-To: <{SATO}>",
        ),
    ),
    Scene(
        "stranger",
        "A stranger's newsletter asks one of our people for a receipt, in three different header fields.",
        STRANGER,
        (SATO,),
        _plain(
            STRANGER,
            SATO,
            "Special offer",
            "spam-6@elsewhere.example",
            "Buy now.",
            f"Disposition-Notification-To: <tracker@{STRANGER.partition('@')[2]}>",
            f"Return-Receipt-To: {STRANGER}",
            f"X-Confirm-Reading-To: {STRANGER}",
        ),
    ),
    Scene(
        "partner",
        "A partner asks one of our people for a receipt.",
        YAMADA,
        (SATO,),
        _plain(
            YAMADA,
            SATO,
            "納期のご連絡",
            "delivery-7@partner.example",
            "納期は月末です。",
            f"Disposition-Notification-To: {YAMADA}",
        ),
    ),
    Scene(
        "thunderbird",
        "The partner's Thunderbird answers the contract: a receipt that only the policy had asked for, with a valid signature.",
        "",
        (LEGAL,),
        lambda ids: _verified(_thunderbird_receipt(YAMADA, LEGAL, ids["contract"]), "partner.example"),
    ),
    Scene(
        "exchange",
        "The other partner's Exchange answers, without Original-Message-ID and with a reverse-path.",
        SUZUKI,
        (LEGAL,),
        lambda ids: _exchange_receipt(SUZUKI, LEGAL, ids["terms"]),
    ),
    Scene(
        "bounce",
        "The address that does not exist bounces.",
        "",
        (LEGAL,),
        lambda ids: _bounce(NOBODY, LEGAL, ids["terms"]),
    ),
    Scene(
        "own-receipt",
        "A receipt that the employee's own client had asked for.",
        "",
        (SATO,),
        lambda ids: _thunderbird_receipt(YAMADA, SATO, ids["asked"]).replace("tb-1@", "tb-2@"),
    ),
    Scene(
        "forged",
        "A stranger forges a receipt in the other partner's name.",
        "evil@elsewhere.example",
        (LEGAL,),
        lambda ids: (
            _exchange_receipt("evil@elsewhere.example", LEGAL, ids["terms"])
            .replace("RFC822; evil@elsewhere.example", f"RFC822; {YAMADA}")
            .replace("exch-1@", "forged@")
        ),
    ),
    Scene(
        "away",
        "An out-of-office note cites the message of four.",
        "",
        (LEGAL,),
        _plain(
            YAMADA,
            LEGAL,
            "Automatic reply: 見積書と契約条件",
            "ooo-13@partner.example",
            "I am away until Monday.",
            "In-Reply-To: {terms}",
            "Auto-Submitted: auto-replied",
        ),
    ),
    Scene(
        "reply",
        "And now the partner replies in person.",
        YAMADA,
        (LEGAL,),
        _plain(
            YAMADA,
            LEGAL,
            "Re: 見積書と契約条件",
            "reply-14@partner.example",
            "確認いたしました。",
            "In-Reply-To: {terms}",
            "References: {terms}",
        ),
    ),
    Scene(
        "renewal",
        "The legal department writes to the partner's sales desk.",
        LEGAL,
        (SALES,),
        _plain(LEGAL, SALES, "契約更新のお願い", "renewal-15@example.co.jp", "契約の更新をお願いいたします。"),
    ),
    Scene(
        "colleague",
        "A person who reads the sales desk's mail answers under an address of her own: kept beneath, until somebody pairs the two.",
        "",
        (LEGAL,),
        lambda ids: _thunderbird_receipt(TANAKA, LEGAL, ids["renewal"]).replace("tb-1@", "tb-4@"),
    ),
    Scene(
        "our-receipt",
        "One of our people opens a stranger's mail on a phone that answers by itself.",
        SATO,
        (STRANGER,),
        lambda ids: _thunderbird_receipt(SATO, STRANGER, "unknown-to-us@elsewhere.example").replace("tb-1@", "tb-3@"),
    ),
    Scene(
        "forwarded",
        "A person forwards a receipt as an attachment: human mail, delivered whatever the policy says.",
        SATO,
        (STRANGER,),
        lambda ids: (
            _mail(
                f"""
            From: {SATO}
            To: {STRANGER}
            Subject: Fwd: receipt
            Message-ID: <fwd-18@example.co.jp>
            MIME-Version: 1.0
            Content-Type: multipart/mixed; boundary="fw"
            """,
                """
            --fw
            Content-Type: text/plain

            See the receipt below.
            --fw
            Content-Type: message/rfc822

            """,
            )
            + _thunderbird_receipt(YAMADA, LEGAL, ids["contract"])
            + "\n--fw--\n"
        ),
    ),
)
