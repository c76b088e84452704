"""lm-eval of EleutherAI: ``local-chat-completions``."""

from __future__ import annotations

import json

import yaml

CLIENT = "lm-eval"
INSTALLED = [["lm-eval[api]==0.4.13"]]


def test_a_task_runs_to_its_end(client, answered, tmp_path):
    rows = [{"prompt": text, "answer": "x"} for text in ("Where does the mill stand?", "Hello.")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "served",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"max_gen_toks": 24, "until": ["\n"]},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(task))
    asked = f"base_url={client.url}/chat/completions,model=lab-base,num_concurrent=2"
    options = ["--include_path", ".", "--tasks", "served", "--apply_chat_template", "--output_path", "found"]
    client.run(
        *("-m", "lm_eval", "run", "--model", "local-chat-completions", "--model_args", asked, *options),
        folder=tmp_path,
        OPENAI_API_KEY=client.key,
    )
    (path,) = (tmp_path / "found").rglob("results_*.json")
    assert json.loads(path.read_text())["n-samples"]["served"]["effective"] == answered() == 2
