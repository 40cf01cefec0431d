from tests.chaos.lives import Life, Lives


class TestLives:
    """Generators that are led by a few threads."""

    def test_are_led_side_by_side(self) -> None:
        """Forty on two threads, none of which ends before all have begun."""
        begun, done, complaints = list[int](), list[int](), list[str]()
        lives = Lives(2, complaints.append)

        def life(number: int) -> Life:
            begun.append(number)
            while len(begun) < 40:
                yield 0.01
            done.append(number)

        for number in range(40):
            lives.begin(life(number))
        left = lives.wait(30)
        lives.end()

        assert (left, sorted(done), complaints) == (0, list(range(40)), [])

    def test_go_on_when_one_fails(self) -> None:
        """Its trouble is told, and the others do not notice."""
        done, complaints = list[str](), list[str]()
        lives = Lives(1, complaints.append)

        def unhappy() -> Life:
            yield 0.0
            raise RuntimeError("enough")

        def happy() -> Life:
            yield 0.1
            done.append("happy")

        lives.begin(unhappy())
        lives.begin(happy())
        left = lives.wait(30)
        lives.end()

        assert (left, done) == (0, ["happy"])
        assert "RuntimeError: enough" in complaints[0]

    def test_may_be_left_under_way(self) -> None:
        """Whoever waits forever is counted, and does not hold up the end."""
        lives = Lives(1, lambda _: None)

        def endless() -> Life:
            while True:
                yield 60

        lives.begin(endless())

        assert lives.wait(0.1) == 1
        lives.end()
