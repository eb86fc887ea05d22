"""The words in which an evidence bundle is told, English and Japanese: what entries say, what it proves, the verdict.

Part of each bundle, see :mod:`kaifu.proxy.bundle_facts`; :mod:`kaifu.proxy.bundle_page` takes them. Needs nothing but Python 3.8 or
newer. Data alone; nothing here fails.
"""

from __future__ import annotations

_SAME = (
    "displayed deleted denied failed dispatched processed delayed relayed expanded delivered reply auto-reply unreadable other"
    " mail mdn dsn none kept added stripped policy client nobody outbound inbound internal transit accepted refused deferred"
    " withheld unknown matched claimed authenticated phone meeting letter chat enforce observe retention request"
)
WORDS: dict[str, dict[str, str]] = {
    "en": {
        **{word: word for word in _SAME.split()},
        "title": "Record of a read receipt", "result": "Result", "asked": "What was asked, and under which rule",
        "back": "What came back", "notes": "Notes by people (no receipts)", "pairs": "Addresses that people paired",
        "hidden": "Not shown", "proof": "Proof", "means": "What this proves, and what not",
        "no-answer": "No answer that counts. That does not mean unread.",
        "list": "Several mailboxes stand behind this address, so no answer confirms for all; answered: {}", "counts": "counts",
        "counts-not": "does not count", "number": "Message", "from": "From", "to": "To", "subject": "Subject", "sent": "Sent",
        "recorded": "Recorded", "again": "Tried again", "request-was": "Request", "by-whom": "asked by", "rule": "Rule",
        "no-rule": "(no rule of the policy)", "why": "Why", "would": "Only observed; would have been", "basis": "Written basis",
        "edits": "Changed", "not-possible": "Not possible", "confirm": "Grade that an answer must have",
        "version": "Policy version", "since": "on record since", "outcome": "Delivery", "mdn": "receipt",
        "dsn": "delivery report", "answers-for": "answers for", "revoked-by": "revoked by entry", "pair": "paired by entry",
        "other-address": "from another address", "failed-authentication": "it failed authentication",
        "unknown-message": "cites no message of ours", "wrong-recipient": "not from a recipient",
        "suspected": "only looks like a receipt", "alias": "from a known alias",
        "duplicate": "seen before", "entry": "entry", "cell": "cell", "left-out": "left out of this bundle",
        "erased-by": "erased by entry", "gone": "(not shown)", "ledger": "Ledger", "entries": "Entries",
        "sent-anchor": "Anchor sent", "batch": "batch", "says": "says", "octets": "the report, octet by octet",
        "accepted": "accepted by the next hop",
    },
    "ja": {
        "title": "開封確認の記録", "result": "結果", "asked": "何を、どの規則によって求めたか", "back": "返ってきたもの",
        "notes": "人による記録（開封確認ではない）", "pairs": "人が対応づけたアドレス", "hidden": "ここに示していないもの",
        "proof": "証明", "means": "この記録が証明すること、しないこと",
        "no-answer": "有効な回答なし。未読という意味ではありません。",
        "list": "複数のメールボックスがこの宛先で受け取るため、どの回答も全体の確認にはなりません。回答数: {}", "counts": "有効", "counts-not": "無効",
        "number": "メッセージ", "from": "差出人", "to": "宛先", "subject": "件名", "sent": "送信", "recorded": "記録",
        "again": "再試行", "request-was": "開封確認の要求", "by-whom": "要求者", "rule": "規則", "no-rule": "（該当する規則なし）",
        "why": "理由", "would": "観察のみ。実施した場合の内容", "basis": "書面による根拠", "edits": "変更",
        "not-possible": "実施できなかったこと", "confirm": "回答に必要な信頼度", "version": "ポリシーの版", "since": "記録日時",
        "outcome": "配送", "answers-for": "の代わりに回答:", "revoked-by": "取消しエントリ", "pair": "対応づけエントリ",
        "entry": "エントリ", "cell": "欄", "left-out": "この束には含めていない", "erased-by": "消去エントリ",
        "gone": "（示していない）", "ledger": "台帳", "entries": "エントリ番号", "sent-anchor": "送付済みアンカー",
        "batch": "バッチ", "says": "記録者", "octets": "報告の原文", "displayed": "表示された", "deleted": "表示せずに削除された",
        "denied": "回答を拒否された", "failed": "失敗", "dispatched": "転送処理された", "processed": "自動処理された",
        "delayed": "配送遅延", "relayed": "中継された", "expanded": "複数の宛先に展開された", "delivered": "配送された",
        "reply": "返信", "auto-reply": "自動返信", "unreadable": "読み取れない", "other": "その他", "mail": "メール",
        "mdn": "開封確認", "dsn": "配送状況通知", "none": "なし", "kept": "あり（差出人の要求を維持）",
        "added": "追加した", "stripped": "取り除いた", "policy": "ポリシー", "client": "差出人", "nobody": "なし",
        "outbound": "社外宛", "inbound": "社外から", "internal": "社内", "transit": "通過", "accepted": "次の中継先が受け取った",
        "refused": "拒否された", "deferred": "後に再試行", "withheld": "届けずに留めた", "unknown": "不明",
        "matched": "送ったメールと一致", "claimed": "claimed（自称）", "authenticated": "authenticated（ドメイン認証済）",
        "phone": "電話", "meeting": "面談", "letter": "書面", "chat": "チャット", "enforce": "適用", "observe": "観察のみ",
        "retention": "保存期間の満了", "request": "本人などの請求", "other-address": "別のアドレスから",
        "failed-authentication": "認証に失敗", "unknown-message": "当方のメールを指していない",
        "wrong-recipient": "宛先本人からではない", "suspected": "開封確認らしいだけのもの",
        "alias": "既知の別名から", "duplicate": "受領済みと同じもの",
    },
}  # fmt: skip
MEANING = {
    "en": (
        (
            "A receipt that counts means: the message was displayed in, or answered from, that mailbox. It never proves that a"
            " particular person read it. No answer does not mean unread: many programs send no receipts, and people may decline."
        ),
        (
            "claimed: whoever wrote the receipt says so; nothing was checked. authenticated: the receipt really came from the domain that"
            " answers (DKIM or SPF, checked by the owner's own server); it proves the domain, not the person. attested: a person noted"
            " it; such notes stand apart and are no receipts."
        ),
        (
            "The proof shows that the entries named below were sealed in this ledger in this form, and when checked against an anchor that"
            " you got elsewhere, that they stood there when that anchor was made and have not been changed since. Without such an"
            " anchor it shows only that everything in this bundle agrees: whoever owns the ledger could have made it anew."
        ),
        (
            "It does not show that what was recorded was true, nor that the ledger has nothing more about this message: what was left"
            " out of this bundle altogether cannot be seen in it. The ledger keeps the SHA-256 of the bundle as it was handed out. What"
            " belongs to other people is left out; its commitments stay in the entries, with how many they were and the rules for them."
        ),
        (
            "This page proves nothing by itself. To check all of it: python3 -I verify.py BUNDLE.zip --anchor LINE. Take the anchor, and best"
            " the program too, from somewhere else than from who gave you this."
        ),
    ),
    "ja": (
        (
            "有効な開封確認は、そのメールがそのメールボックスで表示されたか、そこから返信されたことを意味します。特定の人が読んだことの証明では"
            "ありません。回答なしは未読を意味しません。開封確認を送らないソフトは多く、回答を断ることもできます。"
        ),
        (
            "claimed（自称）: 開封確認を書いた者の申告であり、何も確認していません。authenticated（ドメイン認証済）: 回答したドメインから実際に"
            "届いたことを、台帳の所有者のサーバーがDKIMまたはSPFで確認しました。証明されるのはドメインであり、人ではありません。attested（人の記録）:"
            " 人が書き留めたもので、別に扱い、開封確認ではありません。"
        ),
        (
            "この証明は、下記のエントリがこの形でこの台帳に封印されたことを示します。別の所から入手したアンカーと照合すると、アンカー作成時に"
            "存在し、その後変更されていないことを示します。そのようなアンカーがなければ、この束の内容が互いに一致することしか示しません。"
            "台帳の所有者なら作り直すことができます。"
        ),
        (
            "記録された内容が真実であること、また、このメールについて台帳に他の記録がないことは示しません。束に含めなかった記録は、束からは"
            "分かりません。台帳には、渡した束のSHA-256が残ります。他の人に関する内容は含めず、そのコミットメントと、人数および適用された規則だけがエントリに残ります。"
        ),
        (
            "このページ自体は何も証明しません。全体の検証: python3 -I verify.py BUNDLE.zip --anchor LINE。アンカーは（できればこのプログラムも）、"
            "これを渡した人とは別の所から入手してください。"
        ),
    ),
}
SAYS = {
    "en": {
        "proven": "PROVEN against the anchor: every entry in this bundle about this message stood in the ledger when it was made, and"
        " was not changed since.",
        "agrees": "EVERYTHING AGREES, but this is not proven: no anchor covers all of it.",
        "no-anchor": "Without an anchor that was kept elsewhere, whoever owns the ledger could have made all this anew: --anchor.",
        "uncovered": "No anchor that was given covers these entries: {}. It may be older than they are, or the bundle does not lead"
        " to it: ask for one that was made with --anchor and this line.",
        "sent": "NOT proven by it: {}. Written later, these say where anchors were sent; whether that is so, whoever got them knows.",
        "holds": "The anchor of {} (batch {}) holds.",
        "compared": "The entries: proven by verify.py itself. That record.json, index.html and reports/ say what the entries say, octet by"
        " octet: computed by {}, which are those that verify.py knows by their SHA-256.",
        "limits": "Not shown by any of this: that what was recorded is true; that the ledger has nothing more about this message.",
        "digest": "SHA-256 of this file, which the ledger's owner has on record as it was handed out: {}",
    },
    "ja": {
        "proven": "証明できました: このメールに関する全てのエントリは、アンカー作成時に台帳にあり、その後変更されていません。",
        "agrees": "内容は全て一致していますが、証明はされていません: 全体を覆うアンカーがありません。",
        "no-anchor": "別の所に保管されたアンカーがなければ、台帳の所有者は全てを作り直すことができます（--anchor）。",
        "uncovered": "次のエントリは、与えられたアンカーでは覆われません: {}。アンカーがそれより古いか、この束からたどれません。"
        "この行を --anchor に付けて作った束を求めてください。",
        "sent": "証明されないエントリ: {}。後から書かれたもので、アンカーの送付先を述べるだけです。事実かどうかは受け取った側に確認してください。",
        "holds": "{} のアンカー（バッチ {}）は合っています。",
        "compared": "エントリの証明: verify.py 自体が行いました。record.json、index.html、reports/ がエントリの内容とオクテット単位で一致すること:"
        " {} が計算しました（いずれも verify.py の知るSHA-256と一致）。",
        "limits": "示されないこと: 記録の内容が真実であること、このメールについて台帳に他の記録がないこと。",
        "digest": "このファイルのSHA-256（渡した時の値が台帳に記録されています）: {}",
    },
}
"""What ``verify.py`` says of a bundle in which everything agrees."""
