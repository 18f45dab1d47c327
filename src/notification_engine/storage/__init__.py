"""The only user of PyMongo: one repository a collection, indexes, migrations."""
