"""The five services that own the business, and the chassis they stand on."""
