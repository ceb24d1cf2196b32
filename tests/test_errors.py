"""mpbench.errors: of a long text the reason, in one line."""

import pytest

from mpbench.errors import described, place_in_own_code

REASON = "Input 0 of layer 'conv' is incompatible with it"
CALL = "Exception encountered when calling {}.\n\n\x1b[1m{}\x1b[0m\n\nArguments received by {}:\n  • inputs=tf.Tensor()"
OUTER = CALL.format("Functional.call()", CALL.format("Conv2D.call()", REASON, "Conv2D.call()"), "Functional.call()")
INFERRED = (
    "Could not automatically infer the output shape / dtype of 'net' (of type Net). Either the `Net.call()` method is "
    "incorrect, or you need to implement the `Net.compute_output_spec() / compute_output_shape()` method. "
    f"Error encountered:\n\n{OUTER}"
)
GRAPH = (
    "Graph execution error:\n\nDetected at node loss/Loss defined at (most recent call last):\n"
    '  File "/home/somebody/train.py", line 5, in <module>\n\n  File "/lib/keras/trainer.py", line 1, in fit\n\n'
    f"{REASON}\n\t [[{{{{node loss/Loss}}}}]] [Op:__inference_step_5]"
)
HIDDEN = (
    "Graph execution error:\n\nDetected at node a defined at (most recent call last):\n<stack traces unavailable>\n"
    f"{REASON}"
)


@pytest.mark.parametrize(
    "text", [REASON, f"\n{REASON}\nand more", OUTER, INFERRED, GRAPH, HIDDEN, f"{{{{function_node f_1}}}} {REASON}"]
)
def test_the_reason_stands_in_the_line(text):
    assert described(ValueError(text)) == f"ValueError: {REASON}"


@pytest.mark.parametrize("text", ["", "\n", "Graph execution error:\n", "Exception encountered when calling f()."])
def test_what_has_no_reason_is_still_one_line(text):
    assert described(KeyError(text)).startswith("KeyError: ")
    assert "\n" not in described(ValueError(text))


def test_the_place_is_the_last_in_a_users_own_code():
    def fails():
        raise ValueError

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        fails()
    line = fails.__code__.co_firstlineno + 1
    assert place_in_own_code(caught.value) == f" (test_errors.py, line {line})"
    assert place_in_own_code(ValueError()) == ""
