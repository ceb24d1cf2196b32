"""The tables of accuracy: what they say, and when."""

from case_records import accuracy_record

from mpbench.report import thesis
from mpbench.report.accuracy import accuracy_lines, in_words


def test_the_thesis_tables_come_out_of_its_counts():
    records = [accuracy_record(model, counts) for model, counts in thesis.CONTINGENCY.items()]
    text = "\n".join(accuracy_lines(records))
    assert "Table 2, validation accuracy in %: dogs-vs-cats.zip, 20000 to train on, 5000 to judge on, " in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(tuple(thesis.CONTINGENCY))}
    for model, p in thesis.MCNEMAR_P.items():
        row = rows[model]  # of Table 3, the last one of its model
        assert row[2:7] == [*map(str, thesis.CONTINGENCY[model]), f"{p:.3f}"]
        assert row[-1] == f"{p:.3f}"
    assert "91.70 -> 90.74" in text
    assert text.count("EQUIVALENT: ") == 3
    assert "Drawn pictures" not in text


def test_a_small_sample_is_not_called_equal():
    line = in_words(accuracy_record(table=(160, 3, 5, 32)))
    assert line.startswith(
        "NOT SHOWN TO BE EQUIVALENT: vgg16, mixed_float16 against float32: +1.00 [-2.16, +4.43] percentage points, "
        "not equivalent within +-1 points (p "
    )
    assert line.endswith(
        "McNemar saw no difference (p 0.727), but with 200 images it misses one of 3.96 points in one case of five"
        "; not even identical answers to 200 images could show equivalence"
    )


def test_what_a_sample_can_never_show_is_said():
    identical = in_words(accuracy_record(table=(160, 0, 0, 40)))
    assert identical.endswith("; not even identical answers to 200 images could show equivalence")
    tiny = accuracy_record(table=(4, 0, 0, 0), detectable_difference=None, majority_p=0.01, baseline_majority_p=0.01)
    assert "but with 4 images it cannot see any; not even" in in_words(tiny)
    assert "  none  " in "\n".join(accuracy_lines([tiny]))


def test_a_difference_is_named_even_where_it_is_small():
    assert in_words(accuracy_record(table=(160, 20, 2, 18))).startswith(
        "DIFFERENT: vgg16, mixed_float16 against float32: "
    )
    large = in_words(accuracy_record(table=(98000, 120, 70, 1810)))
    assert "McNemar p 0.00035 is not above 0.05" in large
    assert "though equivalent within +-1 points" in large


def test_nothing_learned_is_void_whatever_the_p():
    line = in_words(accuracy_record(table=(100, 2, 8, 90)))
    assert line.startswith("VOID: vgg16, mixed_float16 against float32: float32 51.00 % (p ")
    assert "mixed_float16 54.00 % (p " in line
    assert "do not beat the most frequent class, 50.00 %" in line
    one = in_words(accuracy_record(table=(100, 60, 0, 40)))
    assert "float32 80.00" not in one
    assert "mixed_float16 50.00 % (p " in one


def test_drawn_pictures_and_random_weights_are_labelled():
    lines = accuracy_lines([accuracy_record(data="generated pictures", weights="random", skipped_images=3)])
    assert lines[-2].startswith("Drawn pictures or random weights: these accuracies say nothing about the thesis's")
    assert "generated pictures, 20000 to train on, 5000 to judge on, 3 not decodable, weights random" in lines[0]


def test_skipped_steps_and_models_unknown_to_the_thesis():
    known = accuracy_record(skipped_steps=4)
    other = accuracy_record("mobilenet_v2", device="cpu")
    text = "\n".join(accuracy_lines([known, other]))
    assert "skipped steps" in text
    assert "0, 4" in text
    assert "on NVIDIA V100/a CPU" in text
    (row,) = [line for line in text.splitlines() if line.startswith("mobilenet_v2") and "4562" in line]
    assert row.count("0.371") == 2  # its own exact p and that of chi-squared, none of the thesis's
