from turns import ratio, take_turns


def test_contestants_take_turns_and_every_second_turn_is_in_reverse_order():
    ran = []
    contestants = {name: lambda name=name: ran.append(name) for name in "abc"}
    seconds = take_turns(contestants, 2)
    assert ran == ["a", "b", "c", "c", "b", "a"]
    assert {name: len(own) for name, own in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_that_of_turns_side_by_side_with_quartiles():
    # The ratios are 1, 2, 3, 4, 5, whatever else slowed the third turn down.
    assert ratio([1, 2, 30, 4, 5], [1, 1, 10, 1, 1]) == [2, 3, 4]


def test_a_single_turn_has_a_ratio():
    assert ratio([3], [2]) == [1.5, 1.5, 1.5]
