"""The vocabulary and the text format.

A prompt is `<bos><user><image> what color is the small square?<assistant>`, its answer ` orange<eos>`; `<image>` stands
for the patch rows. In the GGUF the tokenizer is byte-level BPE that looks up whole words first, so the words below are
tokens with the space before them, and all else becomes bytes (which the model knows nothing of).
"""

import re

from questions import COLUMNS, NUMBERS, ROWS, plural
from scenes import COLOR_NAMES, LETTERS, SHAPES, SIZES

SPECIAL = ("<bos>", "<eos>", "<user>", "<assistant>", "<image>", "<pad>")
BOS, EOS, USER, ASSISTANT, IMAGE, PAD = range(len(SPECIAL))
ASKING = ("what", "where", "how", "is")  # may begin a sentence
WORDS = (
    *ASKING, "color", "shape", "letter", "the", "on", "at", "with", "many", "are", "there", "a", "an", "of",
    "above", "below", "object", "objects", *SIZES, *COLOR_NAMES, *SHAPES, *map(plural, SHAPES), *ROWS, *COLUMNS,
    *NUMBERS, "yes", "no", "nothing", *LETTERS,
    "start", "end",
)  # fmt: skip
# More ways to write a word, with the weights of the word: ids follow those of WORDS.
ALIASES = tuple((form, word) for word in ASKING for form in (f" {word.capitalize()}", word.capitalize(), word))

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}<assistant>{% else %}<user>{% endif %}"
    "{% if message.content is string %}{{ ' ' + message.content | trim }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.text is defined %}{{ ' ' + part.text | trim }}{% else %}<image>{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message.role == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_names() -> list[str]:
    """How byte-level BPE writes each byte: printable ones as they are, the others from U+0100 on."""
    names, following = [], 0x100
    for byte in range(256):
        if 0x20 < byte < 0x7F or (byte > 0xA0 and byte != 0xAD):
            names.append(chr(byte))
        else:
            names.append(chr(following))
            following += 1
    return names


FIRST_BYTE = len(SPECIAL)
FIRST_WORD = FIRST_BYTE + 256
ID = {f" {word}": FIRST_WORD + i for i, word in enumerate(WORDS)}
FIRST_ALIAS = FIRST_WORD + len(WORDS)
SIZE = FIRST_ALIAS  # what is trained; the aliases come with the export


def tokens() -> list[str]:
    """All tokens as the GGUF holds them."""
    written = lambda text: text.replace(" ", "\u0120")
    return [*SPECIAL, *byte_names(), *(written(f" {w}") for w in WORDS), *(written(form) for form, _ in ALIASES)]


def encode(text: str) -> list[int]:
    """Ids of a sentence of known words, with a space before the first."""
    return [FIRST_BYTE + ord(p) if len(p) == 1 else ID[p] for p in re.findall(r" [A-Za-z]+|[?.,]", f" {text}")]


def decode(ids) -> str:
    out = []
    for i in ids:
        if i >= FIRST_WORD:
            out.append(" " + WORDS[i - FIRST_WORD])
        elif i >= FIRST_BYTE:
            out.append(chr(i - FIRST_BYTE))
        else:
            out.append(SPECIAL[i])
    return "".join(out)
