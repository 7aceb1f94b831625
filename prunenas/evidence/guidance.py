"""A laboratory that also works out guided cells: those that rest on what other seeds found."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from prunenas.architecture import Architecture, pack, unpack
from prunenas.cache import Cache
from prunenas.errors import PrunenasError
from prunenas.evidence import laboratory, patterns
from prunenas.evidence.cells import GUIDED, Cell, Contender, Outcome
from prunenas.evidence.laboratory import Laboratory
from prunenas.evidence.patterns import Pattern, guided, pattern
from prunenas.methods import Dense, Derivation
from prunenas.training.causes import causes

FOUND = "found"  # of the cache's entries: what methods came to


@dataclass(frozen=True)
class Found:
    """What a method came to with one seed: an architecture, or why there is none."""

    architecture: Architecture | None = None
    reason: str | None = None


@dataclass(frozen=True)
class GuidedLaboratory(Laboratory):
    """Works out the arms ``guided`` and ``transferred`` too.

    What a method finds with each seed is kept, so that it is found once, whoever asks.

    Attributes:
        seeds: Of the comparison; patterns are of what methods find with all of them.
        origin: Where transferred patterns are found; None where that is this very network.
    """

    seeds: range = range(0)
    origin: "GuidedLaboratory | None" = None

    def dense(self, seed: int) -> Dense:
        """Return the dense network of a seed."""
        return self._dense(seed)

    def finding(self, contender: Contender, seed: int) -> Found | None:
        """Return what a method was found to come to; None where it was not worked out."""
        entry = self.cache.get(FOUND, self._found_key(contender, seed))
        if entry is None:
            return None
        if entry.meta["reason"] is not None:
            return Found(reason=entry.meta["reason"])
        plain = Architecture.from_dict(entry.meta["architecture"])
        return Found(plain.with_bits(unpack(entry.tensors)) if plain.masks else plain)

    def find(self, contender: Contender, seed: int) -> Found:
        """Return what a method comes to with a seed, worked out once.

        Raises:
            DataError: The data can't be read.
            Exception: What else is no law of prunenas', such as an exhausted memory or a full disk;
                nothing is kept of it.
        """
        with self.cache.lock(FOUND, self._found_key(contender, seed)):
            found = self.finding(contender, seed)
            if found is None:
                cell = Cell("scratch_e", seed, contender.flops_ratio, contender)
                try:
                    found = Found(super()._derived(cell, self._dense(seed)).architecture)
                except PrunenasError as error:
                    found = Found(reason=laboratory.reason(error))
                self._keep(contender, seed, found)
        return found

    def pattern(self, contender: Contender, first: int | None = None) -> Pattern | str:
        """Return the pattern of what a method finds with all seeds, or why there is none.

        Seeds with which it finds nothing are left out.

        Args:
            contender: The method at its budget.
            first: The seed to begin with, so that several processes share the work.
        """
        begin = 0 if first is None else self.seeds.index(first)
        order = [*self.seeds[begin:], *self.seeds[:begin]]
        by_seed = {seed: self.find(contender, seed) for seed in order}
        every = [by_seed[seed] for seed in self.seeds]
        architectures = [each.architecture for each in every if each.architecture is not None]
        if not architectures:
            return next(each.reason or "" for each in every)
        try:
            return pattern(self.space, architectures)
        except ValueError as error:
            return str(error)

    def is_of(self, other: "GuidedLaboratory") -> bool:
        """Whether this is the same dense network on the same data."""
        return self.space.dense == other.space.dense and self.data.digest == other.data.digest

    def known_pattern(self, contender: Contender) -> Pattern | None:
        """Return the pattern where every seed's network was found already; nothing is trained."""
        known = all(self.finding(contender, seed) is not None for seed in self.seeds)
        found = self.pattern(contender) if known else ""
        return None if isinstance(found, str) else found

    def _work(self, cell: Cell) -> Outcome:
        if cell.contender is not None:
            if cell.arm in GUIDED:
                found = self._guide(cell)
                if isinstance(found, str):
                    return Outcome(reason=found)
            elif reason := self.find(cell.contender, cell.seed).reason:
                return Outcome(reason=reason)
        return super()._work(cell)

    def _derived(self, cell: Cell, dense: Dense) -> Derivation:
        if cell.contender is None or cell.arm == "fine_tuned":  # that needs weights
            return super()._derived(cell, dense)
        if cell.arm not in GUIDED:
            architecture = self.find(cell.contender, cell.seed).architecture
            assert architecture is not None  # `_work` has asked
            return Derivation(architecture)
        found = self._guide(cell)
        assert isinstance(found, Pattern)  # likewise
        budget = int(cell.contender.flops_ratio * self.space.dense_flops)
        return Derivation(guided(dense, found, flops=budget, seed=cell.seed))

    def _guide(self, cell: Cell) -> Pattern | str:
        """The pattern that a guided cell follows, or why it has none."""
        assert cell.contender is not None
        origin = self if cell.arm == "guided" else self.origin
        if origin is None:
            return "patterns to transfer come from this network and data: it is the arm guided"
        found = origin.pattern(cell.contender, cell.seed)
        if isinstance(found, Pattern) and found.of == "weights" and not found.maps:
            return "masks are guided by 3 x 3 kernels, but the pruned networks have none"
        return found

    def _keep(self, contender: Contender, seed: int, found: Found) -> None:
        architecture = found.architecture
        meta = {
            "about": f"{self.space.dense.source}: {contender.label} at "
            f"{contender.flops_ratio:.0%} FLOPs, seed {seed}",
            "architecture": None if architecture is None else architecture.to_dict(),
            "reason": found.reason,
        }
        bits = pack(architecture.bits()) if architecture is not None else {}
        self.cache.put(FOUND, self._found_key(contender, seed), bits, meta)

    def _found_key(self, contender: Contender, seed: int) -> str:
        return Cache.key(
            contender={**asdict(contender), "label": None},
            work=_code(__file__, laboratory.__file__),
            **causes(
                self.space.dense,
                self.data,
                self.recipe,
                epochs=self.recipe.epochs,
                seed=seed,
                device=self.device,
                rooms=("methods",),
            ),
        )

    def _key(self, cell: Cell) -> str:
        plain = super()._key(cell)
        if cell.arm not in GUIDED or cell.contender is None:
            return plain
        origin = self if cell.arm == "guided" else self.origin
        return Cache.key(
            cell=plain,
            protocol=self.recipe.protocol,
            pattern=origin and [origin._found_key(cell.contender, seed) for seed in self.seeds],
            work=_code(__file__, patterns.__file__),
        )


@cache
def _code(*files: str) -> str:
    """Digest of the files that decide what is kept."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
