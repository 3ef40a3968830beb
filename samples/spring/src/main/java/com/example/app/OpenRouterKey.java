// Checked by `samples/check spring`.
package com.example.app;

import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.stereotype.Component;
import org.springframework.vault.core.lease.SecretLeaseContainer;
import org.springframework.vault.core.lease.domain.RequestedSecret;
import org.springframework.vault.core.lease.event.SecretLeaseCreatedEvent;

/**
 * The current key. Get it for each request instead of keeping it.
 *
 * <p>A property that is imported from Vault would keep its first value. A rotating secret is read again
 * before its lease ends, renewable or not.
 */
@Component
public class OpenRouterKey {

  private volatile String current;

  public OpenRouterKey(SecretLeaseContainer leases, @Value("${openrouter.path}") String path) {
    RequestedSecret secret = RequestedSecret.rotating(path);
    leases.addLeaseListener(
        event -> {
          if (event.getSource().equals(secret) && event instanceof SecretLeaseCreatedEvent read) {
            use((String) read.getSecrets().get("api_key"));
          }
        });
    // Reads it once before this returns.
    leases.addRequestedSecret(secret);
  }

  public String current() {
    return current;
  }

  private void use(String key) {
    if (!key.equals(current)) {
      current = key;
      String end = key.substring(key.length() - 4);
      LoggerFactory.getLogger(getClass()).info("a new key ends in {}", end);
    }
  }
}
