package neighbours;

import com.google.gson.JsonObject;
import java.util.Map;
import java.util.TreeMap;

/** One JSON line per event on standard output, and the counters of the last line. Never a token, a secret or a message of an exception. */
final class Events {
  private final Map<String, Long> counters = new TreeMap<>();

  Events() {
    for (String name : new String[] {"calls", "ok", "failed", "beside", "mesh", "rejected", "token_calls", "token_failures"}) {
      counters.put(name, 0L);
    }
  }

  synchronized void count(String name) {
    counters.merge(name, 1L, Long::sum);
  }

  synchronized long counter(String name) {
    return counters.get(name);
  }

  void ready(Settings settings) {
    emit("ready", Map.of("kind", settings.kind(), "mode", settings.mode()));
  }

  /** How a business call ended for its caller. {@code errcode} is null where there was none. */
  void call(String via, Integer errcode, String error) {
    boolean ok = errcode != null && errcode == 0;
    count("calls");
    count(via);
    count(ok ? "ok" : "failed");
    Map<String, Object> fields = new TreeMap<>();
    fields.put("via", via);
    fields.put("ok", ok);
    fields.put("errcode", errcode);
    if (error != null) {
      fields.put("error", error);
    }
    emit("call", fields);
  }

  /** An answer on the wire that refuses the token, also when the library calls again and succeeds. */
  void rejected(String via, int errcode) {
    count("rejected");
    emit("rejected", Map.of("via", via, "errcode", errcode));
  }

  void tokenCall(boolean ok, int errcode) {
    count("token_calls");
    if (!ok) {
      count("token_failures");
    }
    emit("token_call", Map.of("ok", ok, "errcode", errcode));
  }

  void summary(Settings settings) {
    Map<String, Object> fields = new TreeMap<>(counters);
    fields.put("kind", settings.kind());
    fields.put("mode", settings.mode());
    emit("summary", fields);
  }

  private static synchronized void emit(String event, Map<String, ?> fields) {
    JsonObject line = new JsonObject();
    line.addProperty("event", event);
    fields.forEach((name, value) -> {
      if (value instanceof Number number) {
        line.addProperty(name, number);
      } else if (value instanceof Boolean flag) {
        line.addProperty(name, flag);
      } else {
        line.addProperty(name, (String) value);
      }
    });
    // toString() leaves out nothing: a null errcode is written as null.
    System.out.println(line);
    System.out.flush();
  }
}
