"""Regular expressions of RE2 that say what a word is, by tokenizer and script."""

import unicodedata

SEPARATOR = "\x01"  # stands between words while a pattern works; taken out of the text before

# Tokenizer "words".

# Joins two letters, but neither starts nor ends a word: apostrophes, the middle dot of Catalan, Hebrew geresh and
# gershayim, the zero-width joiners of Indic scripts and Persian.
INNER = "'’·׳״\u200c\u200d"
# Neither visible nor significant: soft hyphen, combining grapheme joiner, Hangul fillers, variation selectors.
INVISIBLE = "[\u00ad\u034f\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]"
BETWEEN_WORDS = rf"[^\p{{L}}\p{{M}}\p{{N}}{INNER}]+|[{INNER}]{{2,}}"
# A combining mark without a letter before it does not start a word.
NOT_A_START = rf"(^|{SEPARATOR})[\p{{M}}{INNER}]+"
NOT_AN_END = rf"[{INNER}]+({SEPARATOR}|$)"

# Tokenizer "whitespace".

# Not white space, and still the end of a word: control characters, such as the field separators of Hive, and the
# zero-width space, which marks the words of scripts that are written without spaces.
BREAK = r"[\p{Cc}\x{200B}]+"
# Never part of a word: directional marks, word joiner, byte-order mark.
HIDDEN = r"[\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2069}\x{FEFF}]+"

# Scripts that are written without spaces between the words: letters of Chinese and Japanese (the prolonged sound marks
# and 〆 belong to no script), and of Thai, Lao, Burmese and Khmer (whose digits and marks belong to the scripts, too).
KANA = r"\p{Katakana}\x{30FC}\x{FF70}"
EAST_ASIAN = rf"\p{{Han}}\p{{Hiragana}}\x{{3006}}{KANA}"
SOUTH_EAST_ASIAN = "".join(
    chr(code)
    for block in ((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0xA9E0, 0xAA00), (0xAA60, 0xAA80))
    for code in range(*block)
    if unicodedata.category(chr(code)).startswith("L")
)
UNSPACED = rf"[{EAST_ASIAN}{SOUTH_EAST_ASIAN}]\p{{M}}*"  # one letter with its combining marks
# Longer than a word of these scripts, so it must be several.
CLAUSE = rf"[{EAST_ASIAN}]{{5,}}|[{SOUTH_EAST_ASIAN}\p{{M}}]{{16,}}"
ONE_WORD = rf"^[{KANA}]+$"  # long loan words such as "electrocardiogram"
