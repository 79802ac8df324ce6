"""What must outlive a kill -9: SQLite in WAL mode."""

from siperb_core.store.contract import LocationStore, StoredBinding
from siperb_core.store.schema import StoreError
from siperb_core.store.store import Store, StoredCall, StoredDialog

__all__ = ["LocationStore", "Store", "StoreError", "StoredBinding", "StoredCall", "StoredDialog"]
