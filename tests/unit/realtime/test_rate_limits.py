from notification_engine.domain.rate_limit import RateClass, RateLimit, Taken
from notification_engine.realtime.rate_limits import FREED, Counted, RateLimits

READ, WRITE = RateClass.READ, RateClass.WRITE


class Fixture:
    def __init__(self, amount: int, kept: int = 100_000) -> None:
        self.now = 6000.0
        self.told: list[Counted] = []
        limits = {READ: RateLimit(amount, 60), WRITE: RateLimit(1, 60)}
        self.limits = RateLimits(limits, key="k", tell=self.told.append, now=lambda: self.now, kept=kept)

    def take(self, subject: str = "u1", name: RateClass = READ) -> Taken:
        taken = self.limits.take(name, subject)
        assert taken is not None
        return taken


def test_a_class_without_a_limit_counts_nothing() -> None:
    assert Fixture(1).limits.take(RateClass.SEND, "u1") is None


def test_each_subject_and_each_class_has_its_own_budget() -> None:
    f = Fixture(2)
    assert [f.take().allowed for _ in range(3)] == [True, True, False]
    assert f.take("u2").allowed
    assert f.take(name=WRITE).allowed
    assert f.limits.refused[READ] == 1


def test_what_is_left_and_when_there_is_more_are_told() -> None:
    f = Fixture(2)
    f.now += 15
    assert (f.take().remaining, f.take().remaining) == (1, 0)
    refused = f.take()
    assert (refused.remaining, refused.reset) == (0, 45)
    f.now += refused.retry_after
    assert f.take().allowed


def test_the_others_are_told_at_every_hundredth_of_a_limit() -> None:
    f = Fixture(500)
    for _ in range(4):
        f.take()
    assert f.told == []
    f.take()
    f.take()  # waits to be told; once is enough
    assert [w.count for w in f.told] == [6]


def test_who_asked_cannot_be_read_from_what_is_shared() -> None:
    f, other = Fixture(1), Fixture(1)
    f.take("anna@example.org")
    other.take("anna@example.org")
    assert f.told[0].name == other.told[0].name
    assert "anna" not in f.told[0].name
    elsewhere = RateLimits({READ: RateLimit(1, 60)}, key="another", tell=f.told.append)
    elsewhere.take(READ, "anna@example.org")
    assert f.told[1].name != f.told[0].name


def test_ever_new_subjects_do_not_fill_the_memory_nor_forget_other_classes() -> None:
    f = Fixture(1, kept=2 * FREED)
    f.take("u1", WRITE)
    for i in range(5 * FREED):
        f.take(f"u{i}")
    assert f.limits.figures()["windows_read"] <= 2 * FREED
    assert not f.take("u1", WRITE).allowed


def test_windows_that_count_no_more_make_room_first() -> None:
    f = Fixture(1, kept=2 * FREED)
    for i in range(2 * FREED - 1):
        f.take(f"old{i}")
    f.now += 180
    f.take("u1")
    f.take("u2")
    assert f.limits.figures()["windows_read"] == 2
    assert not f.take("u1").allowed


def test_any_text_can_ask() -> None:
    f = Fixture(1)
    for subject in ("", "\ud800", "a\x00b", "ü" * 10_000):
        assert f.take(subject).allowed
