"""`python app.py train lora` from outside: what it prints where, how it ends, and what it leaves behind."""

import pytest
from typer.testing import CliRunner

from app.cli.train import train
from extensions.lora.files.inspection import inspect
from extensions.lora.files.read import targets_in
from lavie.bundle import Bundle


@pytest.fixture
def command(pictures, tiny_bundle, tmp_path):
    def call(*options, images=pictures, trigger="zkw"):
        arguments = ["lora", "--images", images, "--trigger", trigger, "--output", tmp_path / "out.safetensors"]
        arguments += ["--model", tiny_bundle, "--work", tmp_path / "work", "--precision", "no", "--device", "cpu"]
        return CliRunner().invoke(train, [str(argument) for argument in (*arguments, "--prior", "0", *options)])

    return call


def test_it_trains_and_says_where_the_adapter_is(command, tmp_path, tiny_bundle):
    done = command("--steps", "2", "--samples-every", "2", "--rank", "2", "--prompt", "a zkw")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'out.safetensors'}\n"
    said = done.stderr.splitlines()
    assert [line.split()[1] for line in said if " a step" in line] == ["1/2", "2/2"]
    samples = sorted(path.name for path in (tmp_path / "work/samples").iterdir())
    assert [name for name in samples if name.endswith("png")] == ["step_000000.png", "step_000002.png"]
    assert inspect(tmp_path / "out.safetensors", targets_in(Bundle(tiny_bundle))).ranks == (2,)
    again = command("--steps", "3")
    assert again.exit_code == 1 and "give --resume to go on" in again.stderr
    assert command("--steps", "3", "--rank", "2", "--resume", "--samples-every", "0").exit_code == 0


@pytest.mark.parametrize(
    ("options", "changed", "said"),
    [
        (["--preset", "face"], {}, "preset is 'face': choose one of"),
        (["--rank", "10000"], {}, "rank is 10000: give 1 to 512"),
        ([], {"trigger": "two words"}, "the trigger is 'two words'"),
        ([], {"images": "nowhere"}, "nowhere is not there"),
        (["--precision", "fp16"], {}, "mixed precision is 'fp16'"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(command, options, changed, said):
    done = command(*options, **changed)
    assert done.exit_code == 1
    assert said in done.stderr and done.stderr.count("error: ") == 1 and done.stderr.count("\n") == 1
    assert done.stdout == ""
