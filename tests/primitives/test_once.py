"""Each thing is said once."""

from otpylib_telemetry.primitives.once import Once


def test_a_thing_is_news_once_and_again_when_it_was_over():
    once = Once()
    assert [once.is_news("down"), once.is_news("down"), once.is_news("slow")] == [True, False, True]
    once.over("down")
    once.over("never said")
    assert [once.is_news("down"), once.is_news("slow")] == [True, False]
    once.clear()
    assert once.is_news("slow")


def test_what_there_is_only_one_of_needs_no_name():
    once = Once()
    assert [once.is_news(), once.is_news()] == [True, False]
    once.over()
    assert once.is_news()


def test_beyond_the_limit_nothing_is_news():
    once = Once(2)
    assert [once.is_news(number) for number in range(4)] == [True, True, False, False]
    once.over(0)
    assert once.is_news(3)
