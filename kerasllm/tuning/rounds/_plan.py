"""The arguments of `prefer` that say what its rounds do, and their checks."""

import dataclasses

from kerasllm.checks import UserError, check_int, check_real, shown
from kerasllm.tuning.rounds._keeping import BestOfEach
from kerasllm.tuning.rounds._run import describe_rule, digest_of
from kerasllm.tuning.rounds._sampling import check_held_out, check_prompts
from kerasllm.tuning.rounds._watching import FEWEST_PROMPTS, RewardWatch


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the rounds of `prefer` do; see there for the attributes."""

    prompts: list
    reward_fn: object
    validation_prompts: list | None
    rounds: int
    num_generations: int
    keep: object
    prompts_per_round: int | None
    true_score: object
    renew_reward: object
    watch: object
    restore_best: bool
    temperature: float

    def __post_init__(self):
        for name in ("rounds", "num_generations"):
            self._settle(name, check_int(name, getattr(self, name), 1))
        check_real(
            "temperature",
            self.temperature,
            lambda value: 0 < value <= 1e30,
            "positive and finite",
            cure="1 samples from the model itself.",
        )
        self._settle("temperature", float(self.temperature))
        if self.keep is None:
            self._settle("keep", BestOfEach())
        self._settle("prompts", check_prompts("prompts", self.prompts))
        self._check_functions()
        self._check_share_of_prompts()
        if self.validation_prompts is not None:
            self._check_validation()
        self._check_watch()

    def _settle(self, name, value):
        object.__setattr__(self, name, value)

    def _check_functions(self):
        for name, is_optional in (
            ("reward_fn", False),
            ("keep", False),
            ("true_score", True),
            ("renew_reward", True),
        ):
            value = getattr(self, name)
            if not (callable(value) or (is_optional and value is None)):
                raise UserError(
                    f"`{name}` must be callable. Received: {name}="
                    f"{shown(value)}. "
                    + (
                        f"For a cutoff write `Cutoff({shown(value)})`."
                        if name == "keep"
                        else "A `RewardModel` or a function is."
                    )
                )

    def _check_share_of_prompts(self):
        if self.prompts_per_round is None:
            return
        count = check_int("prompts_per_round", self.prompts_per_round, 1)
        self._settle("prompts_per_round", count)
        if count * self.rounds > len(self.prompts):
            raise UserError(
                "There must be fresh prompts for each round. Received: "
                f"{len(self.prompts)} prompts, prompts_per_round={count} and "
                f"rounds={self.rounds}. Bring {count * self.rounds}, lower one "
                "of the two, or leave `prompts_per_round` out to have all "
                "prompts in each round."
            )

    def _check_validation(self):
        name = "validation_prompts"
        self._settle(name, check_prompts(name, self.validation_prompts))
        check_held_out(name, self.validation_prompts, self.prompts)

    def _check_watch(self):
        is_measured = (
            self.validation_prompts is not None and self.true_score is not None
        )
        for name in ("watch", "restore_best"):
            if getattr(self, name) and not is_measured:
                raise UserError(
                    f"`{name}` needs `validation_prompts` and `true_score`, "
                    f"which it goes by. Received: {name}="
                    f"{shown(getattr(self, name))} without. Pass both."
                )
        if self.watch is None:
            return
        if not isinstance(self.watch, RewardWatch):
            raise UserError(
                "`watch` must be a `RewardWatch`. Received: watch="
                f"{shown(self.watch)}. Write `RewardWatch()`."
            )
        if len(self.validation_prompts) < FEWEST_PROMPTS:
            raise UserError(
                f"`watch` needs at least {FEWEST_PROMPTS} held-out prompts, to "
                "tell a fall from noise. Received: "
                f"{len(self.validation_prompts)}. Hold out more."
            )
        if self.renew_reward is not None:
            raise UserError(
                "`watch` compares the rewards of different rounds, so the "
                "reward must stay the same. Received: `watch` and "
                "`renew_reward`. Leave one of them out."
            )

    def identity(self):
        """Return what determines the result of a run: a dict for JSON."""
        return {
            "prompts": digest_of(self.prompts),
            "validation_prompts": digest_of(self.validation_prompts),
            "num_generations": self.num_generations,
            "keep": describe_rule(self.keep),
            "prompts_per_round": self.prompts_per_round,
            "true_score": self.true_score is not None,
            "renew_reward": self.renew_reward is not None,
            "temperature": self.temperature,
        }

    def prompts_of(self, number):
        """Return the prompts of a round, which are counted from 1."""
        count = self.prompts_per_round
        if count is None:
            return self.prompts
        return self.prompts[(number - 1) * count : number * count]
