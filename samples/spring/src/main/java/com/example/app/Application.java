// Checked by `samples/check spring`.
package com.example.app;

import java.time.Duration;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.vault.core.VaultOperations;
import org.springframework.vault.core.lease.SecretLeaseContainer;

/** An application that is notified of every new key. */
@SpringBootApplication
public class Application {

  public static void main(String[] arguments) {
    SpringApplication.run(Application.class, arguments);
  }

  /** Reads secrets again before their leases end. */
  @Bean(initMethod = "start")
  SecretLeaseContainer leases(
      VaultOperations vault, @Value("${openrouter.read-before-end}") Duration early) {
    SecretLeaseContainer leases = new SecretLeaseContainer(vault);
    leases.setExpiryThreshold(early);
    return leases;
  }
}
