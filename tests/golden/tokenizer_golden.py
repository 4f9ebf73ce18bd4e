#!/usr/bin/env python3
"""Writes tokenizer_golden.json: small tokenizers of every kind of pipeline with
texts, ids and decoded texts by the `tokenizers` library, and conversations by
Jinja as transformers sets it up. test_tokenizer_golden.c compares with it.

  tokenizer_golden.py > tokenizer_golden.json        (tokenizers 0.23, transformers 5)
"""
import json
import sys

import tokenizer_kinds
import chat_templates
from transformers.utils.chat_template_utils import render_jinja_template


def kinds():
    characters = tokenizer_kinds.assigned()
    out = {}
    for k, (name, build) in enumerate(tokenizer_kinds.KINDS.items()):
        t = build()
        cases = []
        texts = [""] + list(tokenizer_kinds.texts(30, 100 + k, characters)) + tokenizer_kinds.CORPUS[k % 3:: 3]
        for text in texts:
            e = t.encode(text)
            cases.append([text, e.ids, t.decode(e.ids, skip_special_tokens=False), t.decode(e.ids, skip_special_tokens=True)])
        out[name] = {"tokenizer": json.loads(t.to_str()), "cases": cases}
    return out


def chats():
    out = []
    for name, template in chat_templates.TEMPLATES.items():
        for messages in chat_templates.CONVERSATIONS:
            for extra in chat_templates.EXTRAS if name == "qwen3" else [{}]:
                for reply in (False, True):
                    try:
                        text = render_jinja_template([messages], chat_template=template, add_generation_prompt=reply, bos_token="<s>",
                                                     eos_token="</s>", **extra)[0][0]
                    except Exception:  # refused by the template or by Jinja
                        text = None
                    out.append([name, messages, extra, reply, text])
    return {"templates": chat_templates.TEMPLATES, "cases": out}


if __name__ == "__main__":
    json.dump({"kinds": kinds(), "chats": chats()}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
    print()
