"""The laws of the backbone contract as a check that anyone can run on a backbone of their own."""

from wmkit.testing.checker import ContractViolation as ContractViolation
from wmkit.testing.checker import LawResult as LawResult
from wmkit.testing.checker import check_backbone as check_backbone
from wmkit.testing.checker import examine_backbone as examine_backbone
