#!/usr/bin/env python3
"""Adapters against `peft` itself, both ways: what it saves gives the same logits here, and what a run with LoRA leaves gives
the same logits and the same greedy tokens there, as adapters on the base and merged.

Runs where `transformers` and `peft` can be imported by this Python or by $TENFOLD_PYTHON; otherwise it is skipped.
"""
import io
import json
import os
import tempfile
import unittest
import warnings
from contextlib import redirect_stdout

import python_kit

python_kit.need("torch", "transformers", "peft")
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import family_kit  # noqa: E402
from run_kit import CONFIG, SOURCE, sets, tenfold  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

GOLDEN = os.path.join(SOURCE, "tests", "golden", "models")
LINE = [5, 17, 60, 42, 9, 88]
torch.set_num_threads(1)
warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def base(folder, kind=transformers.AutoModelForCausalLM, **more):
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


def ours(folder, line=LINE):
    done = tenfold("logits", "--model", folder, "--tokens", ",".join(map(str, line)), "--json")
    assert done.status == 0, done.err
    return torch.tensor(json.loads(done.out)["logits"])


def start(folder, family):
    """A tiny checkpoint with room for the tokenizer of the runs, made by transformers."""
    torch.manual_seed(3)
    common = dict(vocab_size=family_kit.VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, num_experts_per_tok=2,
                  max_position_embeddings=256, initializer_range=0.1, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    if family == "olmoe":
        config = transformers.OlmoeConfig(intermediate_size=16, num_experts=8, **common)
    else:
        config = transformers.DeepseekV2Config(intermediate_size=48, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1,
                                               q_lora_rank=None, kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, topk_method="greedy", **common)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


class Adapters(unittest.TestCase):
    def near(self, a, b, what=""):
        self.assertLessEqual(float((a - b).abs().max() / b.abs().max()), 1e-5, what)

    def given(self, name, folder, **options):
        """An adapter by peft on a fixture, with random B; its model."""
        torch.manual_seed(1)
        where = os.path.join(GOLDEN, name)
        model = peft.get_peft_model(base(where), peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, **options}))
        for key, p in model.named_parameters():
            if "lora_B" in key or "modules_to_save" in key:
                torch.nn.init.normal_(p, std=0.2)
        model.eval().save_pretrained(folder)
        return model

    def test_saved_there_read_here(self):
        cases = [
            ("llama", dict(target_modules=["q_proj", "v_proj"], use_rslora=True)),
            ("llama", dict(target_modules="all-linear", rank_pattern={"o_proj": 2}, alpha_pattern={"o_proj": 3, "layers.1.self_attn.q_proj": 5})),
            ("mixtral", dict(target_modules=["o_proj"], modules_to_save=["lm_head"])),
            ("gpt2", dict(target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True)),
            ("gpt_neox", dict(target_modules=["query_key_value", "dense"])),
            ("olmoe", dict(target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"])),
            ("olmoe", dict(target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])),
            ("olmoe", dict(target_modules=["o_proj"], target_parameters=["layers.1.mlp.experts.down_proj", "mlp.gate.weight"])),
            ("mixtral", dict(target_modules=["v_proj", "w1", "w2", "w3"])),
            ("qwen3_moe", dict(target_modules=["k_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
            ("deepseek_v2", dict(target_modules=["q_proj", "kv_a_proj_with_mqa", "kv_b_proj"], target_parameters=["mlp.experts.down_proj", "mlp.shared_experts.up_proj.weight",
                                                                                                              "mlp.gate_proj.weight"])),
        ]
        for name, options in cases:
            with self.subTest(name, **options), tempfile.TemporaryDirectory() as folder, torch.no_grad():
                there, merged = os.path.join(folder, "adapter"), os.path.join(folder, "merged")
                model = self.given(name, there, **options)
                want = model(torch.tensor([LINE])).logits[0]
                self.assertGreater(float((base(os.path.join(GOLDEN, name))(torch.tensor([LINE])).logits[0] - want).abs().max() / want.abs().max()), 1e-3)
                self.near(ours(there), want, name)
                done = tenfold("model", "merge", os.path.join(GOLDEN, name), there, merged)
                self.assertEqual(done.status, 0, done.err)
                with open(os.path.join(merged, "README.md")) as f:
                    self.assertIn("the adapters of `adapter` were added to the weights", f.read())
                self.near(base(merged)(torch.tensor([LINE])).logits[0], want, name)

    def test_experts_apart_as_before_version_5(self):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            where = os.path.join(GOLDEN, "olmoe")
            with open(os.path.join(where, "config.json")) as f:
                c = json.load(f)
            experts, width, inner, r = c.get("num_experts", c.get("num_local_experts")), c["hidden_size"], c["intermediate_size"], 3
            tensors = {}
            torch.manual_seed(2)
            for layer in range(c["num_hidden_layers"]):
                for e in range(experts):
                    for name, out, fan in (("gate_proj", inner, width), ("up_proj", inner, width), ("down_proj", width, inner)):
                        key = f"base_model.model.model.layers.{layer}.mlp.experts.{e}.{name}"
                        tensors[key + ".lora_A.weight"] = torch.randn(r, fan) * 0.2
                        tensors[key + ".lora_B.weight"] = torch.randn(out, r) * 0.2
            save_file(tensors, os.path.join(folder, "adapter_model.safetensors"))
            with open(os.path.join(folder, "adapter_config.json"), "w") as f:
                json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": where, "r": r, "lora_alpha": 6,
                           "target_modules": ["gate_proj", "up_proj", "down_proj"]}, f)
            model = peft.PeftModel.from_pretrained(base(where), folder).eval()
            self.near(ours(folder), model(torch.tensor([LINE])).logits[0])

    def test_refused_by_name(self):
        with tempfile.TemporaryDirectory() as folder:
            for options, says in ((dict(use_dora=True), "use_dora is set"), (dict(bias="all"), 'bias is "all"'), (dict(init_lora_weights="pissa"), "may change the base")):
                there = os.path.join(folder, says[:4])
                self.given("llama", there, target_modules=["q_proj"], **options)
                done = tenfold("logits", "--model", there, "--tokens", "1,2")
                self.assertEqual(done.status, 2, done.err)
                self.assertIn(says, done.err)
            there = os.path.join(folder, "other")
            self.given("llama", there, target_modules=["q_proj"])
            done = tenfold("model", "merge", os.path.join(GOLDEN, "gpt2"), there, os.path.join(folder, "out"))
            self.assertIn("belongs to no module of this model", done.err)

    def greedy(self, model, line, n=12):
        return model.generate(input_ids=torch.tensor([line]), max_new_tokens=n, min_new_tokens=n, do_sample=False)[0].tolist()

    def run_family(self, family, **changes):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            begin, out = os.path.join(folder, "start"), os.path.join(folder, "run")
            start(begin, family)
            keys = dict(family_kit.RUN, **{"model.init": begin, "lora.r": 4, "lora.alpha": 8, "ppo.optim.lr": 0.01, "sft.optim.lr": 0.01}, **changes)
            done = tenfold("run", CONFIG, "--out", out, *sets(keys))
            self.assertEqual(done.status, 0, done.err)
            line = [5, 17, 260, 42]
            for stage in ("sft", "ppo"):
                exported = os.path.join(out, "models", stage)
                with open(os.path.join(exported, "adapter", "adapter_config.json")) as f:
                    config = json.load(f)
                self.assertEqual(config["base_model_name_or_path"], begin if stage == "sft" else os.path.join(out, "models", "sft"))
                with open(os.path.join(exported, "adapter", "README.md")) as f:
                    self.assertTrue(f.read().startswith("---\nlibrary_name: peft\n"))
                model = peft.PeftModel.from_pretrained(base(config["base_model_name_or_path"]), os.path.join(exported, "adapter"), is_trainable=True).eval()
                merged, there = base(exported), model(torch.tensor([line])).logits[0]
                self.near(ours(exported, line), there, family)
                self.near(ours(os.path.join(exported, "adapter"), line), there, family)
                self.near(merged(torch.tensor([line])).logits[0], there, family)
                self.assertGreater(float((base(config["base_model_name_or_path"])(torch.tensor([line])).logits[0] - there).abs().max()), 1e-3)
                tokens = list(line)
                for _ in range(12):
                    tokens.append(int(ours(exported, tokens)[-1].argmax()))
                self.assertEqual(self.greedy(model, line), tokens)
                self.assertEqual(self.greedy(merged, line), tokens)
                if not config.get("rank_pattern"):  # gate and up projection of fused experts count twice there, in blocks
                    text = io.StringIO()
                    with redirect_stdout(text):
                        model.print_trainable_parameters()
                    self.assertIn(f"{stage}: {text.getvalue().strip()}\n", done.err)

    def test_ppo_on_attention_of_olmoe(self):
        self.run_family("olmoe", **{"lora.targets": "q_proj, v_proj", "lora.dropout": 0.1, "ppo.critic": "none", "ppo.advantage": "group"})

    def test_ppo_on_experts_of_olmoe(self):
        self.run_family("olmoe", **{"lora.targets": "k_proj, experts, gate", "lora.rslora": "true"})

    def test_ppo_on_all_of_deepseek_v2(self):
        self.run_family("deepseek_v2", **{"lora.targets": "all-linear", "ppo.critic": "separate"})

    def test_ppo_on_attention_of_deepseek_v2(self):
        self.run_family("deepseek_v2", **{"lora.targets": "q_proj, kv_b_proj, *.1.mlp.shared_experts.down_proj", "ppo.critic": "none", "ppo.advantage": "group",
                                          "lora.modules_to_save": "lm_head"})

    def test_reward_model_is_a_classifier(self):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            begin, out = os.path.join(folder, "start"), os.path.join(folder, "run")
            family_kit.make(begin, "gpt2")
            keys = dict(family_kit.RUN, **{"model.init": begin, "run.stages": "sft, collect, fit-reward", "collect.prompts": 16, "collect.step_groups": 8, "fit.batch": 4,
                                           "fit.heldout": 0.4, "fit.reference": 8, "lora.r": 4, "lora.targets": "c_attn", "fit.optim.lr": 0.01})
            done = tenfold("run", CONFIG, "--out", out, *sets(keys))
            self.assertEqual(done.status, 0, done.err)
            exported, kind = os.path.join(out, "models", "reward"), transformers.AutoModelForSequenceClassification
            there = peft.PeftModel.from_pretrained(base(os.path.join(out, "models", "sft"), kind, num_labels=1, pad_token_id=0), os.path.join(exported, "adapter")).eval()
            merged = base(exported, kind, pad_token_id=0)
            self.near(there(torch.tensor([LINE])).logits, merged(torch.tensor([LINE])).logits)
            self.assertIn("score.weight", " ".join(load_file(os.path.join(exported, "adapter", "adapter_model.safetensors"))))


if __name__ == "__main__":
    unittest.main()
