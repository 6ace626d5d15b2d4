"""Records to diagnoses: pure functions, no input or output; see `decide`."""

from lab.diagnosis.decide import diagnose, diagnose_record
from lab.diagnosis.model import Diagnosis

__all__ = ["Diagnosis", "diagnose", "diagnose_record"]
