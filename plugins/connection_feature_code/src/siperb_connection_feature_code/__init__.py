"""Connection type feature_code: codes a softphone dials, for an echo test, redial and do-not-disturb."""

from siperb_connection_feature_code.codes import FeatureCode, FeatureCodeSettings
from siperb_connection_feature_code.plugin import FeatureCodePlugin

__all__ = ["FeatureCode", "FeatureCodePlugin", "FeatureCodeSettings"]
