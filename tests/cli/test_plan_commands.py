"""`plan`, `explain`, `compare` from end to end, in this process."""

from __future__ import annotations

import json
import sys

import pytest

from rainshadow import cli


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rainshadow", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def saved(tmp_path, monkeypatch, capsys):
    words = ("plan", "llama_3_1_8b", "--on", "trn2-ultraserver,h200", "--chips", "16..32")
    assert run(monkeypatch, *words, "--batch", "256", "--out", str(tmp_path / "p")) == 0
    capsys.readouterr()
    return tmp_path / "p"


def test_a_plan_is_a_folder_that_explain_and_compare_read(saved, monkeypatch, capsys):
    summary = json.loads((saved / "summary.json").read_text("utf-8"))
    assert {plan["system"] for plan in summary["best_of_each"]} == {
        "trn2_ultraserver",
        "p5en_48xlarge",
    }
    page = (saved / "report.html").read_text("utf-8")
    assert "<svg" in page
    assert "http" not in page.partition("Figures used")[0].replace("http://www.w3.org", "")
    assert run(monkeypatch, "explain", str(saved), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["decisive"][0]["source"]
    assert run(monkeypatch, "compare", str(saved), f"{saved}:2") == 0
    assert "million USD" in capsys.readouterr().out


def test_everything_that_predicts_trainium2_training_says_that_no_table_is_public(
    tmp_path, monkeypatch, capsys
):
    words = ("llama_3_1_8b", "--on", "trn2-ultraserver")
    folder = str(tmp_path / "p")
    small = ("--chips", "64", "--batch", "256", "--out", folder)
    for command in (
        ("plan", *words, *small),
        ("explain", folder),
        ("compare", folder, f"{folder}:2"),
        ("longrun", *words, "--chips", "64", "--tokens", "1T"),
    ):
        assert run(monkeypatch, *command) == 0
        assert "no public table of Trainium 2 training exists" in capsys.readouterr().out, command


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("plan", "lama_3_1_8b"), 1, "did you mean llama_3_1_8b"),
        (("plan", "llama_3_1_8b", "--on", "trn9"), 1, "did you mean"),
        (("plan", "llama_3_1_8b", "--objective", "speed"), 1, "unknown objective"),
        (("plan", "llama_3_1_8b", "--space", "huge"), 1, "complete, mainstream"),
        (("plan", "llama_3_1_8b", "--chips", "many"), 1, "64..16384"),
        (("plan", "llama_3_1_8b", "--engine", "spark"), 1, "ray"),
        (("plan", "llama_3_1_8b", "--on", "grace"), 1, "no accelerator"),
        (("plan", "llama_3_1_405b", "--chips", "1"), 1, "times too much"),
        (("plan", "llama_3_1_8b", "--on", "gaudi3", "--objective", "cost"), 2, "--price"),
        (
            ("plan", "llama_3_1_8b", "--on", "inf2.48xlarge", "--chips", "24"),
            2,
            "inf2_48xlarge.toml",
        ),
        (("explain", "nowhere"), 1, "cannot read"),
        (("compare", "one"), 1, "two or more"),
    ],
)
def test_wrong_input(tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_serve_plan_writes_a_page_and_vllms_arguments(tmp_path, monkeypatch, capsys):
    out = tmp_path / "s"
    words = ("serve-plan", "llama_3_1_8b", "--on", "trn2.48xlarge,h200", "--tpot", "30ms")
    draft = ("--draft", "llama_3_1_8b", "--requests-per-s", "10", "--out", str(out))
    assert run(monkeypatch, *words, *draft) == 0
    assert "USD per M tokens" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert all(plan["time_per_output_token_s"]["value"] <= 0.03 for plan in summary["plans"])
    assert summary["plans"][0]["replicas"] >= 1
    assert "vllm serve llama_3_1_8b" in (out / "vllm_args.txt").read_text("utf-8")
    assert "<svg" in (out / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--isl", "0"), "--isl"),
        (("--mode", "magic"), "continuous"),
        (("--mode", "speculative"), "--draft"),
        (("--draft", "llama_3_1_8b", "--acceptance", "2"), "0 to 1"),
        (("--tpot", "fast"), "50ms"),
        (("--precision", "fp7"), "did you mean"),
        (("--requests-per-s", "0"), "above 0"),
        (("--cached", "4096"), "less than --isl"),
        (("--tpot", "1us"), "times as much"),
    ],
)
def test_wrong_input_to_serve_plan(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "serve-plan", "llama_3_1_8b", *words) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
