"""An organisation that never was: its people, its partners, what it writes about and when, and the policy it has.

For :mod:`tests.bench.ledger_fill`. Everything is drawn from the :class:`random.Random` that is given, so the same seed gives the same
organisation. Domains come in sizes as they do in life: a few with thousands of people, most with one or two. Pure.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

HOUR = 3_600_000_000
"""Microseconds."""
DAY = 24 * HOUR
YEARS_BACK = 730 * DAY
TOKYO = 9 * HOUR
"""Ahead of UTC, all year."""

OURS = "example.co.jp"
FREQUENT, RARE = "契約", "棚卸"
"""A word in about every tenth subject, and one in about every ten-thousandth."""

Item = TypeVar("Item")

_FAMILY = """sato suzuki takahashi tanaka ito watanabe yamamoto nakamura kobayashi kato yoshida yamada sasaki yamaguchi
matsumoto inoue kimura hayashi shimizu saito mori abe ikeda hashimoto ishikawa ogawa maeda okada fujita goto smith mueller
dupont rossi garcia novak larsen kowalski""".split()
_GIVEN = """haruto yuto sota yuki hayato haruki ryo kenji akira makoto naoki takumi satoshi hiroshi yui aoi hina sakura
mei rin yuna misaki nanami ayaka emi kaori naomi yoko keiko anna erik maria paul""".split()
_HEAD = """asahi fuji hikari kita minami higashi nishi sakura matsu take ume yama kawa umi sora hoshi tsuki kaze nami
midori ao shiro kuro kin gin dai shin naka ue moto""".split()
_TAIL = """seiki denki kensetsu shoji bussan kogyo unyu soko insatsu shokuhin yakuhin kagaku system tech law consulting
design trading bank insurance hospital univ""".split()

_DEPARTMENTS = (("legal", 8), ("keiri", 12), ("jinji", 8), ("sales", 120), ("support", 60), ("soumu", 12), ("dev", 80))


@dataclass(frozen=True, slots=True)
class Domain:
    """A partner's. ``answering``: how likely its people let receipts go out; ``signed``: its mail carries a good DKIM signature.

    ``lists``: addresses behind which several people read.
    """

    name: str
    people: tuple[str, ...]
    lists: tuple[str, ...]
    answering: float
    signed: bool


class Weighted(Generic[Item]):
    """Things of which some are drawn more often than others."""

    def __init__(self, items: Sequence[Item], weights: Sequence[float]) -> None:
        self.items = items
        self._sums = list(accumulate(weights))

    def draw(self, chance: Random) -> Item:
        """One of them."""
        return self.items[bisect(self._sums, chance.random() * self._sums[-1], 0, len(self.items) - 1)]


@dataclass(frozen=True, slots=True)
class Organisation:
    """Our people by department, and the others."""

    departments: dict[str, tuple[str, ...]]
    partners: Weighted[Domain]
    strangers: Weighted[Domain]


def organisation(chance: Random, domains: int = 1500) -> Organisation:
    """One of some three hundred people, who write to so many other domains."""
    departments = {
        name: (f"{name}@{OURS}", *_people(chance, OURS if name != "legal" else f"law.{OURS}", size))
        for name, size in _DEPARTMENTS
    }
    others = list(_domains(chance, domains))
    known = len(others) * 2 // 3
    return Organisation(departments, _by_size(others[:known]), _by_size(others[known:]))


def _by_size(domains: Sequence[Domain]) -> Weighted[Domain]:
    return Weighted(domains, [1 / (rank + 3) ** 0.8 for rank in range(len(domains))])


def _people(chance: Random, domain: str, size: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for number in range(size):
        name = f"{chance.choice(_GIVEN)}.{chance.choice(_FAMILY)}"
        found[f"{name}@{domain}" if f"{name}@{domain}" not in found else f"{name}{number}@{domain}"] = None
    return tuple(found)


def _domains(chance: Random, wanted: int) -> Iterator[Domain]:
    seen: set[str] = set()
    while len(seen) < wanted:
        top = chance.choice(("example", "example", "example.com", "co.example", "test"))
        name = f"{chance.choice(_HEAD)}-{chance.choice(_TAIL)}.{top}"
        if chance.random() < 0.1:
            name = f"{chance.choice(('hq', 'tokyo', 'osaka', 'eu'))}.{name}"
        if name in seen:
            continue
        size = min(2000, 1 + int(6 * len(seen) ** -1.1 * 300)) if seen else 2000
        seen.add(name)
        lists = tuple(f"{local}@{name}" for local in ("sales", "info") if chance.random() < 0.3)
        yield Domain(
            name, _people(chance, name, size), lists, chance.choice((0.0, 0.2, 0.5, 0.7, 0.9)), chance.random() < 0.4
        )


# --- what is written about --------------------------------------------------------------------------------------

SUBJECTS: dict[str, Weighted[str]] = {
    "contract": Weighted(
        ("契約書のご確認 {n}", "【契約】業務委託契約の件", "秘密保持契約書（案）{n}", "契約更新のお願い", "Contract {n} for signature",
         "Re: 契約書のご確認 {n}", "覚書の送付について", "基本契約の変更契約書 {n}"), (20, 12, 8, 14, 10, 12, 4, 6),
    ),
    "invoice": Weighted(
        ("請求書 {n} のご送付", "Invoice {n}", "お見積書（{n}）", "見積の再提出", "注文書 {n} 受領のご連絡", "Quotation {n}",
         "支払通知書のご案内", "3月分請求書"), (20, 14, 14, 6, 8, 8, 4, 2),
    ),
    "notice": Weighted(
        ("【重要】サービス停止のお知らせ", "個人情報の取扱いに関する通知", "Notice of price change {n}", "リコールのお知らせ {n}"), (4, 3, 3, 1),
    ),
    "personnel": Weighted(
        ("人事異動のお知らせ", "【人事】年末調整書類の提出について", "健康診断のご案内", "安否確認訓練", "就業規則の改定"), (4, 5, 4, 2, 3),
    ),
    "plain": Weighted(
        ("打ち合わせの件", "Re: 打ち合わせの件", "議事録 {n}", "Minutes of meeting {n}", "納期のご連絡", "ご質問への回答", "Re: your question",
         "資料送付のご案内", "日程調整のお願い", "Report {n}", "仕様書 v{n}", "出張報告", "契約内容についての質問", "棚卸結果のご報告",
         "監査法人からの依頼", "株主総会の招集"),
        (20, 18, 10, 10, 12, 8, 8, 10, 9, 6, 6, 4, 3, 0.03, 0.3, 0.1),
    ),
}  # fmt: skip


def subject(chance: Random, topic: str) -> str:
    """What stands in the Subject field."""
    text = SUBJECTS[topic].draw(chance)
    return text.replace("{n}", str(chance.randrange(1000, 99999))) if "{n}" in text else text


# --- when -------------------------------------------------------------------------------------------------------

_OF_DAY = (1, 1, 1, 1, 1, 2, 6, 20, 60, 110, 100, 90, 50, 85, 95, 90, 90, 80, 45, 25, 14, 8, 4, 2)
_OF_WEEK = (1.05, 1.0, 0.95, 1.0, 1.1, 0.07, 0.03)
_HOLIDAYS = {(1, day) for day in (1, 2, 3)} | {(12, day) for day in (29, 30, 31)} | {(5, day) for day in (3, 4, 5)}


def hours(until: int, total: int) -> Iterator[tuple[int, int]]:
    """The hours of two years up to a time (UTC microseconds), in order: when each begins, and how many of all messages are of it."""
    first = (until - YEARS_BACK) // HOUR
    last = until // HOUR
    weights = [_weight(hour * HOUR, (hour - first) / (last - first)) for hour in range(first, last + 1)]
    weights[-1] *= (until % HOUR) / HOUR  # has only just begun
    whole, so_far, given = sum(weights), 0.0, 0
    for place, weight in enumerate(weights):
        so_far += weight
        due = round(total * so_far / whole)
        yield (first + place) * HOUR, due - given
        given = due


def _weight(at: int, grown: float) -> float:
    here = datetime.fromtimestamp((at + TOKYO) // 1_000_000, UTC)
    if (here.month, here.day) in _HOLIDAYS:
        return 0.02
    month_end = 1.4 if here.day >= 25 else 1.0
    return _OF_WEEK[here.weekday()] * _OF_DAY[here.hour] * month_end * (0.6 + 0.4 * grown)


# --- the policy -------------------------------------------------------------------------------------------------

_POLICY = """\
# The policy of an organisation that never was; edition {edition}.
version: 1
mode: {mode}
groups:
  法務: [legal@example.co.jp, "@law.example.co.jp"]
  人事: [jinji@example.co.jp, soumu@example.co.jp]
  partners: [{partners}]
defaults:
  inbound: {{request: strip}}
rules:
  - name: private mail is never tracked
    when: {{sensitivity: [personal, private]}}
    then: {{request: strip, record: none}}

  - name: 契約書は開封確認を求める
    when: {{direction: outbound, from: group:法務, subject: /契約|覚書|contract/i, consent: [granted, informed, unknown]}}
    then: {{request: add, retain: {years}y}}

  - name: invoices must arrive
    when: {{direction: outbound, subject: /請求|見積|注文|支払|invoice|quotation/i}}
    then: {{request: add, delivery_report: add, retain: 3y}}

  - name: notices must be proven
    when: {{direction: outbound, subject: /重要|通知|お知らせ|notice/i}}
    then: {{request: add, delivery_report: add, confirm: authenticated, retain: 5y}}

  - name: 人事の通知は社内で確認する
    when: {{direction: internal, from: group:人事}}
    then: {{request: add, retain: 1y, basis: "就業規則 第12条"}}

  - name: partners may ask our people
    when: {{direction: inbound, from: group:partners}}
    then: {{request: keep}}

  - name: outsiders do not learn when our people read
    when: {{kind: mdn, direction: outbound, to: not group:partners}}
    then: {{receipt: withhold}}
"""
EDITIONS = ((0, "observe", 5), (21, "enforce", 5), (200, "enforce", 7), (560, "enforce", 7))
"""Day on which it came into force, mode, and years for which contracts are kept."""


def policy_text(edition: int, partners: Sequence[Domain]) -> str:
    """An edition of the policy as it is in its file."""
    _, mode, years = EDITIONS[edition]
    named = ", ".join(f'"@{domain.name}"' for domain in partners)
    return _POLICY.format(edition=edition + 1, mode=mode, years=years, partners=named)
