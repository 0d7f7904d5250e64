"""One name, label and line for each predictor."""

from wmkit.evaluation.predictors import IMAGINED, MEAN_IMAGE, OBSERVED, PREDICTORS, in_order, predictor


def test_no_two_predictors_look_alike():
    assert len({(p.colour, p.dash) for p in PREDICTORS.values()}) == len(PREDICTORS)
    assert len({p.label for p in PREDICTORS.values()}) == len(PREDICTORS)


def test_an_unknown_predictor_has_a_line_that_depends_on_its_name_alone():
    assert predictor("no_memory") == predictor("no_memory")
    assert predictor("no_memory").label == "no memory"


def test_order_is_that_of_the_table_and_others_come_last():
    assert in_order({"zebra", IMAGINED, "ape", MEAN_IMAGE, OBSERVED}) == [
        OBSERVED,
        IMAGINED,
        MEAN_IMAGE,
        "ape",
        "zebra",
    ]
