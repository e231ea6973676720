"""Property tests here are about all inputs, not about speed: a busy machine must not fail them."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parent))  # what several test files share

settings.register_profile("qwen35", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qwen35")
