from __future__ import annotations

import pickle

import hyperspy.exceptions
import pytest

from hyperspy_specml import exceptions
from hyperspy_specml.exceptions import OptionError, SpecMLError, SpecMLWarning


def family(cls: type) -> list[type]:
    return [cls, *(heir for child in cls.__subclasses__() for heir in family(child))]


@pytest.mark.parametrize("error", family(SpecMLError))
def test_every_error_survives_pickling_with_its_message(error):
    message = "method() needs (7, 5, 11), not (7, 11)"

    copy = pickle.loads(pickle.dumps(error(message)))

    assert type(copy) is error
    assert str(copy) == message
    assert copy.args == (message,)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("SpectraRequiredError", hyperspy.exceptions.SignalDimensionError),
        ("NavigationRequiredError", hyperspy.exceptions.NavigationDimensionError),
        ("DataTypeError", TypeError),
        ("ArrayShapeError", ValueError),
        ("TooFewSpectraError", ValueError),
        ("MaskError", ValueError),
        ("NotCountsError", ValueError),
        ("NegativeCountsError", ValueError),
        ("OptionError", ValueError),
        ("PairsError", ValueError),
        ("EnergyAxisMismatchError", ValueError),
        ("ModelFileError", ValueError),
        ("ModelFileExistsError", FileExistsError),
        ("LearningResultsError", ValueError),
        ("DownloadError", OSError),
        ("NotFittedError", ValueError),
        ("NotFittedError", AttributeError),
        ("TrainingDivergedError", RuntimeError),
    ],
)
def test_an_error_is_caught_as_the_class_users_know(name, known):
    with pytest.raises(known) as caught:
        raise getattr(exceptions, name)("why")

    assert isinstance(caught.value, SpecMLError)


@pytest.mark.parametrize("cls", family(SpecMLError) + family(SpecMLWarning))
def test_the_tree_in_the_docstring_names_every_class(cls):
    assert cls.__name__ in exceptions.__doc__


def test_warnings_can_be_filtered_as_one_family_of_user_warnings():
    assert issubclass(exceptions.BaselineBetterWarning, SpecMLWarning)
    assert issubclass(SpecMLWarning, UserWarning)


def test_an_unknown_option_is_answered_with_the_list_and_a_guess():
    error = OptionError.unknown("architecture", "densse", ["pca", "dense"])

    assert str(error) == ("architecture='densse' is unknown; use one of 'pca', 'dense'. Did you mean 'dense'?")


def test_an_unknown_option_far_from_all_others_gets_no_guess():
    assert str(OptionError.unknown("noise", 3, ["auto"])) == "noise=3 is unknown; use one of 'auto'."
