"""Files of prompts: the forms of benchmarks and of captions, and what is refused."""

from __future__ import annotations

import json

import pytest

from ditexp.files.prompt_table import PromptRow, as_prompts, read_prompts
from ditexp.values import Prompt
from tests.helpers.refusals import refused

COCO = {
    "images": [{"id": 9, "file_name": "COCO_9.jpg"}, {"id": 4, "file_name": "COCO_4.jpg"}],
    "annotations": [
        {"id": 7, "image_id": 4, "caption": "later"},
        {"id": 8, "image_id": 9, "caption": "a cat"},
        {"id": 3, "image_id": 4, "caption": "a dog, first"},
    ],
}
GENEVAL = '{"tag": "counting", "include": [{"class": "bus"}], "prompt": "two buses"}\n\n{"prompt": "a \\u2028 bus"}\n'
DPG = "item_id,text,proposition_id\np1,a long text,1\np1,a long text,2\np2,another,1\n"
FORMS = {
    "geneval.jsonl": (GENEVAL, [PromptRow("two buses"), PromptRow("a \u2028 bus")]),
    "dpg.csv": (DPG, [PromptRow("a long text", "p1"), PromptRow("another", "p2")]),
    "parti.tsv": (
        'Prompt\tCategory\n"a ""B"", big"\tAbstract\nbond\tPeople\n',
        [PromptRow('a "B", big'), PromptRow("bond")],
    ),
    "own.csv": (
        "\ufeffid, prompt,seed,label\r\na,seven,5,7\r\na,seven,6,7\r\nb,one,,1\r\n",
        [
            PromptRow("seven", "a", seed=5, label=7),
            PromptRow("seven", "a", seed=6, label=7),
            PromptRow("one", "b", label=1),
        ],
    ),
    "captions_val2014.json": (
        json.dumps(COCO),
        [PromptRow("a dog, first", "4", "COCO_4.jpg"), PromptRow("a cat", "9", "COCO_9.jpg")],
    ),
    "mjhq.json": (json.dumps({"f0e1": {"category": "art", "prompt": "an owl"}}), [PromptRow("an owl", "f0e1")]),
    "list.json": (json.dumps([{"caption": "an owl", "file_name": "x/y.png"}]), [PromptRow("an owl", file="x/y.png")]),
    "lines.txt": ("one\n\ntwo, three\n", [PromptRow("one"), PromptRow("two, three")]),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_files(name, tmp_path):
    text, rows = FORMS[name]
    (tmp_path / name).write_bytes(text.encode())
    assert read_prompts(str(tmp_path / name), name="x") == rows


def test_rows_without_ids_are_numbered_or_named_by_their_files():
    rows = [PromptRow("a", file="x/1.png"), PromptRow("b"), PromptRow("c", "third", label=4, seed=0)]
    assert as_prompts(rows) == [Prompt("x/1.png", "a", 0), Prompt("1", "b", 1), Prompt("third", "c", 4, 0)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.jsonl", '{"prompt": "a"}\nb\n', ["not JSON at line 2"]),
        ("x.jsonl", '["a"]\n', ["['a'] at line 1", "write an object"]),
        ("x.jsonl", '{"prompt": 7}\n', ["no prompt at line 1, but 7"]),
        ("x.jsonl", "\n", ["holds no prompt"]),
        ("x.csv", "id,words\n1,a\n", ["no column prompt, but 'id, words'", "prompt, caption or text"]),
        ("x.csv", "id,prompt\n1,\n", ["no prompt at line 2"]),
        ("x.csv", "id,prompt\n1,a\n1,b\n", ["two prompts of id '1', the second at line 3"]),
        ("x.csv", "prompt,seed\na,1.5\n", ["'1.5' as seed at line 2", "whole number"]),
        ("x.csv", "prompt,seed\na,-1\n", ["'-1' as seed"]),
        ("x.csv", "prompt,label\na,animals\n", ["'animals' as label", "rename the column"]),
        ("x.csv", f"prompt\n{'a' * 10_001}\n", ["a line of 10,001 characters, number 2"]),
        ("x.csv", f"prompt\n{'a' * 200_000}\n", ["cannot be read at line", "field"]),
        ("x.json", "7", ["holds 7"]),
        ("x.json", '{"annotations": [{"id": 1}]}', ["no file of COCO's captions"]),
        ("x.json", '{"a": "b"}', ["'b' at id a"]),
    ],
)
def test_other_files_are_refused(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with refused(["condition.file=f", *words]):
        read_prompts(str(tmp_path / name), name="condition.file=f")
