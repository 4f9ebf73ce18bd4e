#!/usr/bin/env python3
"""`tenfold tokenize` against the `tokenizers` library: the same ids and the same
text back, for every kind of pipeline, on random strings over all of Unicode and
on the texts of the shared data, with GPT-2's, OLMo's and dolma2's real files where
they are.

  test_tokenizer_parity.py [--strings N] [--seed S]      (20000 strings; kinds in turn)

Runs where `tokenizers` can be imported by this Python or by $TENFOLD_PYTHON;
otherwise it is skipped.
"""
import argparse
import os
import random
import sys
import tempfile
import unicodedata

import python_kit

python_kit.need("tokenizers")
import tokenizers  # noqa: E402

import tokenizer_kinds  # noqa: E402

DATA = os.path.join(python_kit.SOURCE, "..", "shared", "data")


def tenfold(model, lines, *options):
    got, refusal = python_kit.tokenize(model, lines, *options)
    if got is None:
        sys.exit(f"FAILED: {model} {options}: {refusal}")
    return got


def compare(name, what, given, got, want):
    assert len(got) == len(want) == len(given), (name, what, len(got), len(want))
    bad = [i for i in range(len(given)) if got[i] != want[i]]
    for i in bad[:3]:
        print(f"{name}: {what} of {given[i]!r}\n  ours       {got[i]!r}\n  tokenizers {want[i]!r}")
    return len(bad)


def check(name, t, model, strings, seed):
    """Ids with special tokens, ids without, and both ways of decoding."""
    ids = [x.ids for x in t.encode_batch_fast(strings)]
    bare = [x.ids for x in t.encode_batch_fast(strings[::5], add_special_tokens=False)]
    bad = compare(name, "ids", strings, tenfold(model, strings), ids)
    bad += compare(name, "bare ids", strings[::5], tenfold(model, strings[::5], "--bare"), bare)
    r = random.Random(seed)
    known = sorted(t.get_vocab(with_added_tokens=True).values())
    lists = ids[::2] + [[r.choice(known) for _ in range(r.randint(0, 12))] for _ in range(len(strings) // 4)]
    bad += compare(name, "text", lists, tenfold(model, lists, "--decode"), t.decode_batch(lists, skip_special_tokens=False))
    bad += compare(name, "text without special tokens", lists, tenfold(model, lists, "--decode", "--skip-special"),
                   t.decode_batch(lists, skip_special_tokens=True))
    return bad


def real():
    """(name, library's tokenizer, path) of the files in the shared data."""
    gpt2 = os.path.join(DATA, "gpt2_bpe_cs336")
    if os.path.isdir(gpt2):
        folder = tempfile.mkdtemp()
        for name in ("vocab.json", "merges.txt"):
            os.symlink(os.path.join(gpt2, "gpt2_" + name), os.path.join(folder, name))
        t = tokenizers.ByteLevelBPETokenizer(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
        t.add_special_tokens(["<|endoftext|>"])
        yield "gpt2", t._tokenizer, folder
    for name in ("allenai_gpt-neox-olmo-dolma-v1_5", "allenai_dolma2"):
        path = os.path.join(DATA, "olmo_tokenizers", name + ".json")
        if os.path.exists(path):
            yield name, tokenizers.Tokenizer.from_file(path), path
    if not os.path.isdir(DATA):
        print("not compared: GPT-2's and OLMo's files, which are not here")


def files():
    names = ["tinyshakespeare/input.txt", "gpt2_bpe_cs336/corpus.en", "gpt2_bpe_cs336/german.txt", "gpt2_bpe_cs336/address.txt",
             "gpt2_bpe_cs336/tinystories_sample.txt", "README.md"]
    return [open(os.path.join(DATA, n), encoding="utf-8", newline="").read()[:200000] for n in names if os.path.exists(os.path.join(DATA, n))]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--strings", type=int, default=20000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", help="one kind")
    a = p.parse_args()
    characters = tokenizer_kinds.assigned()
    strings = list(tokenizer_kinds.texts(a.strings, a.seed, characters))
    # Every character between others, in lines of 64: all of them to those that show what became of each.
    singles = ["x" + "x".join(characters[i:i + 64]) + "x" for i in range(0, len(characters), 64)]
    r = random.Random(a.seed)
    combining = [c for c in characters if unicodedata.combining(c)]
    marks = ["e" + "".join(r.choices(combining, k=n)) + "x" for n in range(2, 120)]
    syllable, jamo = range(0xAC00, 0xD7A4), range(0x1100, 0x1200)
    hangul = ["".join(chr(r.choice(syllable if r.random() < 0.3 else jamo)) for _ in range(r.randint(2, 40))) for _ in range(300)]
    hangul += [chr(c) + chr(t) for c in (0xAC00, 0xAC01, 0xD408, 0x1100, 0x1161) for t in range(0x1160, 0x1200)]
    whole = files()
    bad = compared = 0
    with tempfile.TemporaryDirectory() as folder:
        todo = []
        for name, build in tokenizer_kinds.KINDS.items():
            t = build()
            os.mkdir(os.path.join(folder, name))
            t.save(os.path.join(folder, name, "tokenizer.json"))
            todo.append((name, t, os.path.join(folder, name)))
        todo += list(real())
        for k, (name, t, path) in enumerate(todo):
            if a.only and a.only != name:
                continue
            share = strings if a.only else strings[k::len(todo)]
            share = share + singles[k::len(todo)] + ["".join(characters[i:i + 64]) for i in range(64 * k, len(characters), 64 * len(todo))] + (whole if path.endswith(".json") or name == "gpt2" else [w[:30000] for w in whole])
            bad += check(name, t, path, share, a.seed)
            compared += len(share)
        for name, build in tokenizer_kinds.EXACT.items():
            if a.only and a.only != name:
                continue
            t = build()
            path = os.path.join(folder, "exact.json")
            t.save(path)
            share = singles + strings[:a.strings // 20] + marks + hangul
            got, want = tenfold(path, share), [x.ids for x in t.encode_batch_fast(share)]
            bad += compare(name, "ids", share, got, want)
            compared += len(share)
    print(f"{compared} texts with {len(todo) + len(tokenizer_kinds.EXACT)} tokenizers: {bad} differences" if bad else f"{compared} texts with {len(todo) + len(tokenizer_kinds.EXACT)} tokenizers are equal")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
