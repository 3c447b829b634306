"""`gorl train --plugin` this file, and `Task.environment = @Poison()`."""

import gin

from tests.support.poison import Poison

gin.register(module="test")(Poison)
