"""Which variables the files in `deploy/` may name: our settings, or what a foreign image documents."""

from notification_engine.settings import Settings

_ADDRESSES = {"MONGODB_URL", "REDIS_URL"}
SECRETS = {n for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)} | _ADDRESSES
FOREIGN = {
    "mongo": {"MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD_FILE"},
    "grafana/grafana": {
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_USERS_ALLOW_SIGN_UP",
    },
    "elasticsearch": {"discovery.type", "xpack.security.enabled", "ES_JAVA_OPTS"},
    "logstash": {"XPACK_MONITORING_ENABLED", "LS_JAVA_OPTS"},
    "kibana": {"ELASTICSEARCH_HOSTS"},
}


def known(variable: str) -> bool:
    name = variable.removesuffix("_FILE")
    return variable in Settings.model_fields or (name != variable and name in SECRETS)
