"""Thousands of short texts on which two tokenizers must agree, the same ones every time.

Sentences of five languages and lines of code, written for this purpose, are cut, joined and
disturbed in the ways in which tokenizers have been seen to differ: runs of spaces and line
ends, digits, apostrophes, accents composed and decomposed, emoji of several code points,
scripts without spaces, control characters, and characters that no vocabulary holds.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator

__all__ = ["around", "texts"]

_SENTENCES = {
    "en": (
        "The river rises in the hills and reaches the sea after 1,204 kilometres.",
        "She didn't know whether they'd arrive before noon; nobody's watch agreed.",
        "In 1969 people walked on the Moon for the first time, didn't they?",
        "Water boils at 100 °C at sea level, but at 93 °C on a 2,000 m mountain.",
        "“Why is the sky blue?” asked the child — and the teacher smiled.",
    ),
    "fr": (
        "L’élève s’étonna : « Où est passée l’œuvre d’hier ? »",
        "Aujourd'hui, qu'est-ce qu'on mange à la cantine, des pâtes ou du gâteau ?",
        "Le 14 juillet 1789, la Bastille fut prise ; c’était un mardi.",
        "Ça coûte 12,50 € l’unité, soit 1 250 € les cent exemplaires.",
        "Noël approche : n’oublie pas ta sœur, ton frère et l’haïku promis.",
    ),
    "de": (
        "Die Straßenbahn fährt um 8.15 Uhr über die große Brücke nach Köln.",
        "Der Donaudampfschifffahrtskapitän grüßte höflich und verschwand.",
        "„Können Äpfel müde werden?“, fragte Jürgen seine älteste Schwester.",
        "Im Jahr 1989 fiel die Mauer; 28 Jahre lang hatte sie gestanden.",
        "Das Größte ist, dass Füße, Maße und Grüße verschieden lang sind.",
    ),
    "es": (
        "¿Cuántos años tiene el niño que corre detrás de la cigüeña?",
        "¡Qué maravilla! El pingüino cruzó el río a las 10:45 de la mañana.",
        "En 1492 se publicó la primera gramática de la lengua castellana.",
        "Mañana iremos a la montaña; llevaré piñas, jamón y un termo de té.",
        "El cañón mide 3.000 metros, según el ingeniero de Logroño.",
    ),
    "it": (
        "Perché l’acqua del lago è così limpida d’inverno e torbida d’estate?",
        "C'era una volta un re, diranno subito i miei piccoli lettori.",
        "Nel 1861 nacque il Regno d’Italia; Roma ne fece parte più tardi.",
        "Un caffè costa 1,20 €, però al tavolo se ne pagano più del doppio.",
        "Lunedì verrò a trovarti: porterò libri, mele e un po’ di pazienza.",
    ),
    "code": (
        "def f(x: int) -> list[int]:\n    return [i**2 for i in range(x) if i % 3 == 0]",
        "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];  // dot product\n}",
        'SELECT name, COUNT(*) FROM pupils WHERE grade >= 3.14 GROUP BY "name";',
        "<p class=\"note\">1 &lt; 2 &amp;&amp; x != 'y'</p>\r\n",
        "$ curl -s https://example.org/a_b?c=%20d | grep -E '^[0-9]{3}' > out.txt",
    ),
}
_ODD = (
    "👩‍👩‍👧‍👦",
    "🇫🇷🇩🇪🇪🇸🇮🇹🇬🇧",
    "👍🏽 ☕️ 🤷🏿‍♀️",
    "½ ⅔ ∑ √2 ≈ 1.414",
    "русский текст",
    "日本語のテキスト、中文，没有空格。",
    "한국어 문장",
    "हिन्दी वाक्य",
    "العربية עברית ไทย",
    "\u200b\u200d\ufeff",
    "\u00a0\u202f\u2009",
    "…—–‚„‹›",
    "e\u0301 a\u0308 n\u0303",
    "ﬁ ﬂ ẞ",
    "\x00\x07\x1b[0m",
    "<|im_start|>",
    "<s> [INST]",
    "0123456789" * 3,
    "a" * 32,
    "'" * 6,
    "`" * 6,
    "\t\t\t",
    "\n\n\n",
    "   ",
    "\r\n\r\n",
    "\U00010348\U0001f9ff\U000e0041",
    "Ａｂｃ１２３",
    "I'M YOU'RE WE'VE He'Ll it'S",
)


def texts(count: int = 10_000, seed: int = 1) -> Iterator[str]:
    """`count` texts; all sentences and oddities first, as they are, then disturbed ones."""
    plain = [sentence for sentences in _SENTENCES.values() for sentence in sentences]
    whole = ["", *plain, *_ODD]
    yield from whole[:count]
    dice = random.Random(seed)
    for _ in range(count - len(whole)):
        parts = dice.choices(plain, k=dice.randint(1, 3)) + dice.choices(_ODD, k=dice.randint(0, 2))
        dice.shuffle(parts)
        text = dice.choice(("", " ", "  ", "\n", "\n\n", "\t")).join(parts)
        yield dice.choice(_DISTURBANCES)(text, dice)


def around(tokens: Iterable[str]) -> Iterator[str]:
    """A text for each of a vocabulary’s added tokens: first, within words, and beside itself."""
    for token in tokens:
        text = "{}Le ciel{}est {} bleu,\n{}\n{}{} n’est-ce pas ?{}"
        yield text.replace("{}", token)


def _cut(text: str, dice: random.Random) -> str:
    start = dice.randrange(len(text))
    return text[start : start + dice.randint(1, 60)]


def _spaces(text: str, dice: random.Random) -> str:
    gap = dice.choice((" ", "\n", "\t", "\u00a0", "\r\n")) * dice.randint(2, 9)
    return text.replace(" ", gap, dice.randint(1, 5))


def _case(text: str, dice: random.Random) -> str:
    return dice.choice((str.upper, str.lower, str.title, str.swapcase))(text)


def _digits(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text))
    return f"{text[:at]}{dice.randrange(10 ** dice.randint(1, 12))}{text[at:]}"


def _composed(text: str, dice: random.Random) -> str:
    return unicodedata.normalize("NFD" if dice.random() < 0.5 else "NFKC", text)


def _rare(text: str, dice: random.Random) -> str:
    """Characters from anywhere, surrogates left out: they are no text."""
    points = (dice.randrange(0x20, 0x30000) for _ in range(dice.randint(1, 8)))
    return text[:40] + "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


_DISTURBANCES: tuple[Callable[[str, random.Random], str], ...] = (
    _cut, _spaces, _case, _digits, _composed, _rare, lambda text, _: text,
)  # fmt: skip
