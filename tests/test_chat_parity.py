#!/usr/bin/env python3
"""`tenfold tokenize --chat` against transformers' apply_chat_template: the same
text and the same ids for the templates of the families, for random templates
(white space around tags above all), and a refusal where Jinja refuses.

Runs where `transformers` can be imported by this Python or by $TENFOLD_PYTHON;
otherwise it is skipped.
"""
import json
import os
import random
import sys
import tempfile

import python_kit

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
python_kit.need("transformers")
from transformers import PreTrainedTokenizerFast  # noqa: E402

import chat_templates  # noqa: E402
import tokenizer_kinds  # noqa: E402


def tenfold(folder, lines, *options):
    got, refusal = python_kit.tokenize(folder, lines, "--chat", *options)
    return refusal if got is None else got


def random_template(r):
    text = lambda: r.choice(["", " ", "\n", "  \n  ", "a", " b", "c \n", "\n\n", "\t", "x\n  ", "é"])  # noqa: E731
    sign = lambda: r.choice(["", "", "-", "+"])  # noqa: E731

    def tag(inner):
        return "{%" + sign() + " " + inner + " " + sign() + "%}"

    def block(depth):
        out = text()
        for _ in range(r.randint(0, 3)):
            k = r.randint(0, 4 if depth else 2)
            minus = lambda: r.choice(["", "-"])  # noqa: E731
            if k == 0:
                out += "{{" + minus() + r.choice([" 1 ", " 'q' ", " n ", " messages[0].role ", " 'a' if n > 2 else 'b' ", " n % 2 "]) + minus() + "}}"
            elif k == 1:
                out += "{#" + r.choice(["", "-"]) + " note " + r.choice(["", "-"]) + "#}"
            elif k == 2:
                out += tag("set n = " + r.choice(["n + 1", "3", "n"]))
            elif k == 3:
                out += tag("if n " + r.choice(["> 2", "== 3", "is odd", "in [1, 2]"])) + block(depth - 1) + (tag("else") + block(depth - 1) if r.random() < 0.5 else "") + tag("endif")
            else:
                out += tag("for i in range(" + r.choice(["2", "0", "n"]) + ")") + block(depth - 1) + tag("endfor")
            out += text()
        return out

    return "{% set n = 2 %}" + block(2)


def check(folder, tokenizer, name, template, cases):
    """Cases are (conversation, extras, reply). Returns the number of differences."""
    with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8", newline="") as f:
        f.write(template)
    bad = 0
    for reply in (False, True):
        good, want, want_ids = [], [], []
        for messages, extra in cases:
            line = dict(extra, messages=messages)
            try:
                text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=reply, **extra)
            except Exception as why:  # what Jinja or the template refuses, whatever its class
                got = tenfold(folder, [line], "--render", *(["--reply"] if reply else []))
                if isinstance(got, list):
                    print(f"{name}: transformers refuses ({why}), ours gives {got!r} for {line!r}")
                    bad += 1
                continue
            good.append(line)
            want.append(text)
            want_ids.append(tokenizer.encode(text, add_special_tokens=False))
        for options, expected in ((["--render"], want), ([], want_ids)):
            got = tenfold(folder, good, *options, *(["--reply"] if reply else []))
            if got == expected:
                continue
            bad += 1
            if isinstance(got, str):
                print(f"{name}: ours refuses: {got}")
            for line, ours, theirs in zip(good, got if isinstance(got, list) else [], expected):
                if ours != theirs:
                    print(f"{name}: {template if len(template) < 300 else ''!r}\n  {line!r}\n  ours         {ours!r}\n  transformers {theirs!r}")
                    break
    return bad


def main():
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_kinds.mixtral().save(os.path.join(folder, "tokenizer.json"))
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "add_bos_token": True}, f)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"), bos_token="<s>", eos_token="</s>")
        cases = [(c, x) for c in chat_templates.CONVERSATIONS for x in chat_templates.EXTRAS]
        for name, template in chat_templates.TEMPLATES.items():
            bad += check(folder, tokenizer, name, template, cases)
        r = random.Random(7)
        for i in range(150):
            bad += check(folder, tokenizer, f"random {i}", random_template(r), [(chat_templates.CONVERSATIONS[0], {})])
        # Refused, with the line and the name.
        for template, reason in (("\n{% macro x() %}{% endmacro %}", "line 2: the statement macro"), ("{{ x | wordcount }}", "the filter wordcount"),
                                 ("{{ strftime_now('%d') }}", "strftime_now"), ("{% if x %}", "without endif"), ("{{ 'a'.zfill(3) }}", "the method zfill"),
                                 ("{{ x is divisibleby 3 }}", "the test divisibleby"), ("{{ 1 + }}", "line 1"), ("{% endfor %}", "without its beginning")):
            with open(os.path.join(folder, "chat_template.jinja"), "w") as f:
                f.write(template)
            got = tenfold(folder, [], "--render")
            if not isinstance(got, str) or reason not in got:
                print(f"{template!r}: {got!r} does not say {reason!r}")
                bad += 1
    print(f"{bad} differences" if bad else "all conversations are equal")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
