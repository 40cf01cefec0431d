"""An exhaustive model of one order's saga over the product's own tables; the README beside it says what it is for."""
