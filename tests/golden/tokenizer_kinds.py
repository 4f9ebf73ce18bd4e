"""Tokenizers of every kind of pipeline, built by the `tokenizers` library: small
ones for each family and part. Used by tests/test_tokenizer_parity.py and by
tokenizer_golden.py. Also the random texts to try them on.
"""
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

CORPUS = [
    "The theme of the day: it's there, isn't it? We'll see, they've said; I'm sure you'd know.",
    "Numbers 1234567890 and 3.14, 2024-11-24; prices $5 + 7% = 12 (about)…",
    "def f(x):\n    return x  # a comment\n\tif y:\r\n\t\tpass\n\n\n",
    "café naïve Ångström œuvre straße ÀÉÎÕÜ àéîõü cafe\u0301 nai\u0308ve",
    "中文字符和标点。日本語のテキスト、カタカナ。한국어 문장입니다. 各位早安",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี",
    "emoji 😀😃👩‍👩‍👧‍👦🏳️‍🌈 👍🏽 🇩🇪 and math 𝔸𝕓𝒄 ∑∫≠",
    "HelloWorld camelCase XMLHttp under_score kebab-case a.b.c http://example.org/?q=1&r=2",
    "     spaces        more                 many                                  end ",
]

DEEPSEEK = [
    "[\r\n]",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
    "\\s+$",
    "[一-龥ࠀ-一가-퟿]+",
]
QWEN = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def trained(tokenizer, size, alphabet=(), specials=(), corpus=CORPUS):
    tokenizer.train_from_iterator(
        corpus * 2, BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(specials), show_progress=False))
    return tokenizer


def bos(name, ident):
    return processors.TemplateProcessing(single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, ident)])


def neox():
    t = Tokenizer(BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    trained(t, 420, ALPHABET, ["<|endoftext|>", "<|padding|>"])
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    t.add_tokens([AddedToken("|||IP_ADDRESS|||", normalized=True)])
    return t


def gpt2_prefix():
    t = Tokenizer(BPE(unk_token=None))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    return trained(t, 400, ALPHABET, ["<|endoftext|>"])


def deepseek():
    t = Tokenizer(BPE())
    t.normalizer = normalizers.Sequence([])
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in DEEPSEEK]
        + [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    trained(t, 500, ALPHABET)
    t.add_special_tokens([AddedToken(s, normalized=True) for s in ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")])
    t.add_tokens([AddedToken("<｜User｜>", normalized=False)])
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos("<｜begin▁of▁sentence｜>", t.token_to_id("<｜begin▁of▁sentence｜>"))])
    return t


def qwen():
    t = Tokenizer(BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    trained(t, 500, ALPHABET)
    t.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return t


def mixtral():
    t = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    words = [w for line in CORPUS for w in line.replace(" ", " \n").split("\n")]
    trained(t, 700, specials=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)], corpus=words)
    t.post_processor = bos("<s>", 1)
    return t


def llama_metaspace():
    t = Tokenizer(BPE(unk_token="<unk>", fuse_unk=False, byte_fallback=False, ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    trained(t, 500, specials=["<unk>", "<s>", "</s>"], corpus=CORPUS[:4])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B", special_tokens=[("<s>", 1), ("</s>", 2)])
    return t


def words():
    t = Tokenizer(BPE(unk_token="[UNK]"))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex("[0-9]{4,}"), "0")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()])
    trained(t, 500, specials=["[UNK]"], corpus=[c.lower() for c in CORPUS[:5]])
    t.add_tokens([AddedToken("ABC"), AddedToken("Straße", normalized=True, single_word=True)])
    return t


def nfd_contiguous():
    t = Tokenizer(BPE(unk_token="[UNK]", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Strip(left=True, right=False)])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Split("e", "merged_with_previous"),
        pre_tokenizers.Split(Regex("[a-c]+"), "merged_with_next", invert=True)])
    t.decoder = decoders.Sequence([decoders.Replace(Regex("[xy]"), "z"), decoders.Strip("q", 0, 1), decoders.Strip("e", 2, 0), decoders.Fuse()])
    return trained(t, 400, specials=["[UNK]"])


def nfkd_splits():
    t = Tokenizer(BPE(unk_token="[UNK]"))
    t.normalizer = normalizers.NFKD()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("(?=[A-Z])"), "isolated"), pre_tokenizers.Split(Regex("\\s|,"), "merged_with_next"),
        pre_tokenizers.Split(Regex("[0-9]"), "contiguous", invert=True), pre_tokenizers.Split("..", "removed"),
        pre_tokenizers.Metaspace(prepend_scheme="always", split=False)])
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    return trained(t, 400, specials=["[UNK]"])


def added():
    t = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.Lowercase()])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trained(t, 600, specials=["<unk>"] + ["<0x%02X>" % b for b in range(0x80, 256)], corpus=[c.lower() for c in CORPUS])
    t.add_special_tokens([AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True), AddedToken("<lr>", lstrip=True, rstrip=True),
                          AddedToken("<W>", single_word=True), AddedToken("<wlr>", single_word=True, lstrip=True, rstrip=True)])
    t.add_tokens([AddedToken("Day", normalized=True), AddedToken("the", normalized=False, single_word=True), AddedToken(" x ", normalized=False),
                  AddedToken("  ", normalized=False), AddedToken("Ünder", normalized=True, single_word=True), AddedToken("<l><r>", normalized=False)])
    return t


def bare(normalizer=None, pre_tokenizer=None, **model):
    """Nothing but bytes, so that every change of the text and (with fuse_unk) every cut shows in the ids."""
    names = ["<unk>"] + ["<0x%02X>" % b for b in range(256)]
    t = Tokenizer(BPE(vocab={n: i for i, n in enumerate(names)}, merges=[], unk_token="<unk>", **model))
    if normalizer:
        t.normalizer = normalizer
    if pre_tokenizer:
        t.pre_tokenizer = pre_tokenizer
    return t


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


# What each makes of every single character is compared.
EXACT = {
    "NFC": lambda: bare(normalizers.NFC(), byte_fallback=True),
    "NFD": lambda: bare(normalizers.NFD(), byte_fallback=True),
    "NFKC": lambda: bare(normalizers.NFKC(), byte_fallback=True),
    "NFKD": lambda: bare(normalizers.NFKD(), byte_fallback=True),
    "Lowercase": lambda: bare(normalizers.Lowercase(), byte_fallback=True),
    "Strip": lambda: bare(normalizers.Strip(), byte_fallback=True),
    "Punctuation": lambda: bare(None, pre_tokenizers.Punctuation(), fuse_unk=True),
    "Digits": lambda: bare(None, pre_tokenizers.Digits(individual_digits=True), fuse_unk=True),
    "Whitespace": lambda: bare(None, pre_tokenizers.Whitespace(), fuse_unk=True),
    "WhitespaceSplit": lambda: bare(None, pre_tokenizers.WhitespaceSplit(), fuse_unk=True),
    "letters and numbers": lambda: bare(None, pre_tokenizers.Sequence([split("\\p{L}"), split("\\p{N}"), split("\\s"), split("\\p{M}")]), fuse_unk=True),
    "single words": lambda: single_words(),
}


def single_words():
    t = bare(byte_fallback=True)
    t.add_tokens([AddedToken("x", normalized=False, single_word=True)])
    return t


KINDS = {f.__name__: f for f in (neox, gpt2_prefix, deepseek, qwen, mixtral, llama_metaspace, words, nfd_contiguous, nfkd_splits, added)}

PIECES = [w for line in CORPUS for w in line.split(" ")] + [
    "<|endoftext|>", "<|endof", "|||IP_ADDRESS|||", "<｜begin▁of▁sentence｜>", "<s>", "</s>", "<unk>", "<|im_start|>", "<think>", "[UNK]",
    "<l>", "<r>", "<lr>", "<W>", "<wlr>", "Day", "day", "the", " x ", "ABC", "abc", "Straße", "straße", "Ünder", "<l><r>", "<0x41>", "▁", "▁▁",
    "'s", "'S", "'ll", "12345", "²³½", "٣٤٥", "ⅷ", "\u200d", "\u200c", "\ufe0f", "\u0301", "\u0323\u0307", "가", "각", "ᄀ", "ᅡ", "ᆨ",
    "ﬁ", "Ａ", "İ", "ẞ", "ǅ", "\u2028", "\u3000", "\xa0", "\x00", "\x1b", "\x7f", "\x85", "..", "...", "。", "，", "«»", "\ufeff", "\U000e0001",
    "\U000e0041", "\U0010ffff", "\ue000", "\ufdd0", "ｶﾞ", "が", "か\u3099", "ဢ\u102f\u1037"]


def assigned():
    """Characters that Unicode 14 knows; Python 3.11's tables are of that version."""
    if not unicodedata.unidata_version.startswith("14."):
        print(f"skipped: this Python has Unicode {unicodedata.unidata_version}; the comparison is over Unicode 14 (Python 3.11)")
        sys.exit(77)
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def texts(n, seed, characters):
    """Random strings: all planes evenly, by block, marks, spaces, words and special tokens mixed."""
    r = random.Random(seed)
    marks = [c for c in characters if unicodedata.category(c)[0] == "M"]
    astral = [c for c in characters if ord(c) > 0xFFFF]
    bmp = [c for c in characters if ord(c) <= 0xFFFF]
    spaces = [c for c in characters if c.isspace()]
    parts = [
        lambda: r.choice(PIECES), lambda: r.choice(PIECES), lambda: " " + r.choice(PIECES), lambda: " ", lambda: " " * r.randint(1, 40),
        lambda: r.choice(bmp), lambda: r.choice(astral), lambda: r.choice(marks) * r.randint(1, 3), lambda: r.choice(spaces),
        lambda: "".join(r.choices("abcdeXYZ019.,'-_\n\r\t ", k=r.randint(1, 12))), lambda: "\n" * r.randint(1, 4),
        lambda: "".join(characters[(base + r.randint(0, 200)) % len(characters)] for base in [r.randrange(len(characters))] for _ in range(r.randint(1, 8))),
        lambda: unicodedata.normalize(r.choice(("NFC", "NFD")), r.choice(bmp) + r.choice(marks)),
    ]
    for _ in range(n):
        yield "".join(r.choice(parts)() for _ in range(r.randint(0, 14)))
