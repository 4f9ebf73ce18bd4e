#!/usr/bin/env python3
"""What `transformers` takes for work that `tenfold bench` measures: groups of ten completions of one prompt by generate(), and
forward with backward of the same groups, experts by grouped_mm. One OLMoE-shaped model with random weights in bf16 (f32 on a
processor). Prints one JSON object, or a table with the figures of a benchmark beside it:

    tests/long/compare_transformers.py [--bench RESULT.json] [--width 128 …] [--json]

RESULT.json is the output of `tenfold bench --json`; give both the same shape. Aim: 5 times in generating, 1.5 in training."""
import argparse
import json
import statistics
import time


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("width", 128), ("layers", 3), ("heads", 4), ("experts", 64), ("chosen", 4), ("expert-width", 64), ("vocab", 512),
                        ("groups", 32), ("completions", 10), ("prompt", 40), ("response", 48), ("times", 5)):
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--bench", help="output of tenfold bench --json")
    p.add_argument("--json", action="store_true")
    return p.parse_args()


def main():
    o = options()
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    config = transformers.OlmoeConfig(
        vocab_size=o.vocab, hidden_size=o.width, intermediate_size=o.expert_width, num_hidden_layers=o.layers, num_attention_heads=o.heads,
        num_key_value_heads=o.heads, num_experts=o.experts, num_experts_per_tok=o.chosen, max_position_embeddings=o.prompt + o.response,
        pad_token_id=0, eos_token_id=None)
    experts = "grouped_mm"
    torch.manual_seed(1)
    try:
        model = transformers.AutoModelForCausalLM.from_config(config, experts_implementation=experts)
    except (TypeError, ValueError) as e:
        raise SystemExit("compare_transformers: this transformers has no experts_implementation=%s: %s" % (experts, e))
    model = model.to(device, kind)
    prompts = torch.randint(1, o.vocab, (o.groups, o.prompt), device=device)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def median(fn):
        fn()
        seconds = []
        for _ in range(o.times):
            wait()
            start = time.perf_counter()
            fn()
            wait()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def generate():
        with torch.no_grad():
            model.generate(prompts, do_sample=True, num_return_sequences=o.completions, max_new_tokens=o.response, min_new_tokens=o.response)

    rows = torch.randint(1, o.vocab, (o.completions, o.prompt + o.response), device=device)

    def train():
        for _ in range(o.groups):  # a group at a time: ten whole sequences, the prompt ten times
            model(input_ids=rows, labels=rows).loss.backward()
        model.zero_grad(set_to_none=True)

    model.eval()
    generating = median(generate)
    model.train()
    training = median(train)
    result = {
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu", "torch": torch.__version__, "transformers": transformers.__version__,
        "experts": experts, "groups": o.groups, "generate_seconds": generating,
        "generate_tokens_per_second": o.groups * o.completions * o.response / generating, "train_seconds": training,
        "train_tokens_per_second": o.groups * o.completions * o.response / training,
    }
    if o.bench:
        with open(o.bench) as f:
            compare(result, json.load(f)["sections"]["iteration"], o)
    if o.json:
        print(json.dumps(result, indent=1))
        return
    for key, value in result.items():
        print("%-36s %s" % (key, round(value, 3) if isinstance(value, float) else value))


def compare(result, rows, o):
    """How many times as fast the benchmark's iteration was; its update has AdamW in it, the training here has not."""
    part = {row["what"].split(":")[0]: row for row in rows}
    counts = part["the whole iteration"]["counts"]
    for name, want in (("groups", o.groups), ("completions", o.completions), ("response_tokens", o.response)):
        if round(counts[name]) != want:
            raise SystemExit("compare_transformers: the benchmark has %s %g, this run %d: give both the same shape" % (name, counts[name], want))
    result["tenfold_generate_seconds"] = part["generation"]["ms"] / 1e3
    result["tenfold_train_seconds"] = part["update"]["ms"] / 1e3 / counts["epochs"]
    result["times_as_fast_generating"] = result["generate_seconds"] / result["tenfold_generate_seconds"]
    result["times_as_fast_training"] = result["train_seconds"] / result["tenfold_train_seconds"]


main()
