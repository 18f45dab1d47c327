// Run by mongosh in `mongo-setup`: the replica set of one member, and the engine's user. Harmless when repeated.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();

const REPLICA_SET = {"_id": "rs0", "members": [{"_id": 0, "host": "mongo:27017"}]};
const USER = "engine";
const ROLES = [{"role": "readWrite", "db": "intellibrowse"}];

const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongodb_root_password"));
try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate(REPLICA_SET);
}
for (let tries = 0; !db.hello().isWritablePrimary; tries++) {
  if (tries > 120) throw new Error("no primary");
  sleep(500);
}
const given = {pwd: secret("mongodb_engine_password"), roles: ROLES};
if (admin.getUser(USER)) admin.updateUser(USER, given);
else admin.createUser({user: USER, ...given});
print("The replica set and the engine's user are there.");
