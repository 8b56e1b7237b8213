"""An adapter as a value, and adapters asked for inside a prompt."""

import pytest

from extensions.lora.adapter import Adapter, safe_name
from extensions.lora.tags import TagWeights, find_adapters, take_tags
from lavie.errors import RequestError

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize("adapter", [Adapter(HASH, "a style"), Adapter(HASH, "Größe_1.5-x", -2, 0.25)])
def test_an_adapter_survives_json(adapter):
    assert Adapter.from_json(adapter.to_json()) == adapter
    assert "\n" not in adapter.to_json()


def test_a_weight_for_each_part():
    assert [Adapter(HASH, "a", 0.5).weight_of(part) for part in ("unet", "text")] == [0.5, 0.5]
    assert [Adapter(HASH, "a", 0.5, 0.0).weight_of(part) for part in ("unet", "text")] == [0.5, 0.0]


REFUSED = [
    (lambda: Adapter("abc", "a"), "sha256 is 'abc'"),
    (lambda: Adapter(HASH.upper(), "a"), "64 digits"),
    (lambda: Adapter(None, "a"), "sha256 is None"),
    (lambda: Adapter(HASH, ""), "name is ''"),
    (lambda: Adapter(HASH, "../etc/passwd"), "'../etc/passwd'"),
    (lambda: Adapter(HASH, "a<b"), "'a<b'"),
    (lambda: Adapter(HASH, "x" * 201), "1 to 200 letters"),
    (lambda: Adapter(HASH, "a", 2.1), "a's weight is 2.1"),
    (lambda: Adapter(HASH, "a", None), "weight is None"),
    (lambda: Adapter(HASH, "a", float("nan")), "weight is nan"),
    (lambda: Adapter(HASH, "a", 1.0, -3), "text_weight is -3"),
    (lambda: Adapter.from_json("[]"), "not a JSON object"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_what_is_no_adapter(make, said):
    with pytest.raises(RequestError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"), [("a/b\\c:d", "a_b_c_d"), ("..hidden ", "hidden"), ("<script>", "_script_"), ("é 2.0", "é 2.0")]
)
def test_a_safe_name(text, name):
    assert safe_name(text) == name


TAGS = {
    "<lora:style> a star": ("a star", [TagWeights("style")]),
    "a <lora:style:0.8> star": ("a star", [TagWeights("style", 0.8)]),
    "a star <lora:style:0.2:0.8>": ("a star", [TagWeights("style", 0.8, 0.2)]),
    "a<lora:style:te=0.5:unet=-1>star": ("a star", [TagWeights("style", -1.0, 0.5)]),
    "<lora:style:te=0.5>": ("", [TagWeights("style", 0.5)]),
    "<lora:style:unet=0.5>": ("", [TagWeights("style", 0.5, 1.0)]),
    "<lora:style:0.3:unet=.5>": ("", [TagWeights("style", 0.5, 0.3)]),
    "<lora:a:1> x <lyco:b:-0.5> y": ("x y", [TagWeights("a"), TagWeights("b", -0.5)]),
    "a  <b> 1 < 2 <hypernet:c:1> > star ": ("a  <b> 1 < 2 <hypernet:c:1> > star ", []),
    "<lora:> <lora>": ("<lora:> <lora>", []),
    "line one\n<lora:a>line two": ("line one\n line two", [TagWeights("a")]),
}


@pytest.mark.parametrize("prompt", TAGS)
def test_tags_are_taken_out(prompt):
    text, asked = TAGS[prompt]
    assert take_tags(prompt) == (text, tuple(asked))


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("<lora:a:much>", "'much'"),
        ("<lora:a:3>", "-2 to 2"),
        ("<lora:a:nan>", "'nan'"),
        ("<lora:a:1:1:4>", "part of the ranks"),
        ("<lora:a:dyn=4>", "part of the ranks"),
        ("<lora:a:weight=1>", "'weight'"),
        ("<lora: :1>", "names no adapter"),
    ],
)
def test_tags_that_cannot_be_read(tag, said):
    with pytest.raises(RequestError) as caught:
        take_tags(f"a star {tag}")
    assert said in str(caught.value) and tag in str(caught.value)


def test_names_are_found():
    known = {"style": HASH, "Motion": HASH[::-1], "motion": HASH[1:] + "0"}
    assert find_adapters([TagWeights("Style", 0.5, 0.1)], known) == (Adapter(HASH, "style", 0.5, 0.1),)
    assert find_adapters([TagWeights("motion")], known)[0].sha256 == HASH[1:] + "0"
    for asked, said in (
        ([TagWeights("stile")], "no adapter is called 'stile': there is style"),
        ([TagWeights("MOTION")], "no adapter is called 'MOTION'"),
        ([TagWeights("style"), TagWeights("STYLE")], "asked for twice"),
    ):
        with pytest.raises(RequestError, match=said):
            find_adapters(asked, known)
    with pytest.raises(RequestError, match="there are none yet"):
        find_adapters([TagWeights("a")], {})
